// SPDX-License-Identifier: Apache-2.0
// v2_http_data.h - the "data" member of a tensor: JSON <-> bytes.
#pragma once

#include <cstddef>
#include <cstdint>
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

// The same for a tensor of one element, given by itself. Requires: the shape of `input` has one element.
StatusOr<Slice> ReadJsonScalar(const JsonValue& element, const Tensor& input, size_t max_size);

// The number of elements of an array; 1 for what is none.
uint64_t CountJsonElements(const JsonValue& data);

// Appends the elements of `output` as a flat JSON array. InvalidArg for FP16 and BF16, which JSON can not carry.
Status AppendJsonData(std::string& out, const Tensor& output);

}  // namespace pyinfer::v2_http
