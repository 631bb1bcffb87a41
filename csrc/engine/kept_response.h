// SPDX-License-Identifier: Apache-2.0
// kept_response.h - a response as bytes, for a cache outside of this process; and back, from bytes that may be
// anything.
//
// Format 1, little-endian: "PYIR", the format's number (4 bytes), the number of outputs (4); of each: length of the
// name (4), name, data type (1), number of dimensions (4), dimensions (8 each), length of the data (8), data. Nothing
// follows.
#pragma once

#include <optional>
#include <string>

#include "base/status.h"
#include "infer/request.h"
#include "infer/response.h"

namespace pyinfer {

// Nothing where the response has what the format does not: parameters, or data that is not in memory of the host.
std::optional<std::string> EncodeResponse(const Response& response);

// Nothing where `bytes` are not exactly what EncodeResponse makes: wrong lengths, unknown data types, data that is not
// of the shape's size. Allocates nothing that depends on a declared size. The outputs share the memory of `bytes`, and
// say so.
std::optional<Response> DecodeResponse(const Slice& bytes);

// Whether `response`, in the shape that clients see, is one that the model of `request` can give to it: the outputs
// that were asked for, in that order, of the configuration's data types and dimensions.
bool AnswersRequest(const Request& request, const Response& response);

}  // namespace pyinfer
