// SPDX-License-Identifier: Apache-2.0
// dlpack.h - tensors on a CUDA device, as Python code gets and gives them: by DLPack (github.com/dmlc/dlpack, the ABI
// before 1.0, which all libraries read). Requires the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include "infer/tensor.h"

namespace pyinfer {

// What a batch hands out for an input on a device. Requires: tensor.data.device(), and a fixed-size data type.
pybind11::object ToDeviceArray(const Tensor& tensor);

void BindDlpack(pybind11::module_& module);

}  // namespace pyinfer
