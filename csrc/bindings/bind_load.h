// SPDX-License-Identifier: Apache-2.0
// bind_load.h - the part of the module that measures servers: it shares nothing with the others.
#pragma once

#include <pybind11/pybind11.h>

namespace pyinfer {

void BindLoad(pybind11::module_& module);

}  // namespace pyinfer
