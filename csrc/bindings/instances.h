// SPDX-License-Identifier: Apache-2.0
// instances.h - an instance of a model as Python holds it.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>

#include "engine/model.h"

namespace pyinfer {

// One that is not run by a thread of the core.
struct InstanceHandle {
  std::shared_ptr<Model> model;
  std::string name;
  size_t number;
};

// Adds both ends of a worker process; after what BindEngine adds.
void BindWorker(pybind11::module_& module);

}  // namespace pyinfer
