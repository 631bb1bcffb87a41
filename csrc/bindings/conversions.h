// SPDX-License-Identifier: Apache-2.0
// conversions.h - parameters and lists of tensors <-> Python. All functions require the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "base/status.h"
#include "infer/parameters.h"
#include "infer/tensor.h"

namespace pyinfer {

// None, or a dict of bool, int, float and str.
Parameters ToParameters(const pybind11::object& given);
pybind11::dict ToDict(const Parameters& parameters);

// Of (name, datatype, array or BytesView) each; see FromArray.
StatusOr<std::vector<Tensor>> ToTensors(const pybind11::sequence& given);
// BYTES become BytesViews.
pybind11::list ToList(const std::vector<Tensor>& tensors);

// Copies those whose memory somebody else may still write to.
void CopyUnsettled(std::vector<Tensor>& tensors);

}  // namespace pyinfer
