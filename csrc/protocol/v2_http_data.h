// SPDX-License-Identifier: Apache-2.0
// v2_http_data.h - the "data" member of a tensor: JSON <-> bytes.
#pragma once

#include <cstddef>
#include <string>

#include "base/status.h"
#include "infer/tensor.h"
#include "wire/json.h"

namespace pyinfer::v2_http {

// The elements of `data`, flat or regularly nested, as the bytes of a tensor with the name, type and shape of `input`.
// InvalidArg where an element has the wrong type or does not fit it, where their number is not that of the shape, where
// the nesting is ragged, and where there are more than `max_size` bytes.
// Memory is taken for elements received, not for the shape.
StatusOr<Slice> ReadJsonData(const JsonValue& data, const Tensor& input, size_t max_size);

// Appends the elements of `output` as a flat JSON array. InvalidArg for FP16 and BF16, which JSON can not carry.
Status AppendJsonData(std::string& out, const Tensor& output);

}  // namespace pyinfer::v2_http
