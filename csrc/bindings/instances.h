// SPDX-License-Identifier: Apache-2.0
// instances.h - an instance of a model as Python holds it.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <memory>
#include <string>

#include "engine/model.h"

namespace pyinfer {

// What the thread of an instance has waited for the GIL, a batch in hand. Written by that thread, read by any.
class GilWait {
 public:
  void Add(TimeNs waited) {
    // One writer: no need for an atomic addition.
    executions_.store(executions() + 1, std::memory_order_relaxed);
    waited_ns_.store(waited_ns() + waited, std::memory_order_relaxed);
  }
  uint64_t executions() const { return executions_.load(std::memory_order_relaxed); }
  TimeNs waited_ns() const { return waited_ns_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> executions_{0};
  std::atomic<TimeNs> waited_ns_{0};
};

// One that is not run by a thread of the core.
struct InstanceHandle {
  std::shared_ptr<Model> model;
  std::string name;
  size_t number;
  std::shared_ptr<GilWait> gil_wait = std::make_shared<GilWait>();
};

// Adds both ends of a worker process; after what BindEngine adds.
void BindWorker(pybind11::module_& module);

}  // namespace pyinfer
