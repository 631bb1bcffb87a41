// SPDX-License-Identifier: Apache-2.0
// v2_generate.h - the generate extension: one JSON object in, one out for each response; its members are tensors and
// parameters by name.
//
// Bytes of bodies <-> Request and Response. No socket, no queue, no thread. Source: Triton's generate extension.
#pragma once

#include <cstddef>
#include <string>

#include "base/status.h"
#include "infer/request.h"
#include "infer/response.h"
#include "memory/buffer.h"

namespace pyinfer::v2_generate {

// Reads an object. Members named like an input of the model become that tensor, all others custom parameters, those
// with the name of a reserved parameter too; those of the member `parameters` are read as if they stood in its place.
// `id` is the request's id besides. A tensor is a scalar or an array; its shape is the model's, with what the number of
// elements leaves in the innermost variable dimension and 1 in the others.
// Requires: request.model is set; kBufferPadding readable bytes behind the body. Does not validate against the model
// otherwise: ValidateRequest does.
Status ReadRequest(const Slice& body, size_t max_input_size, Request& request);

// The object for one response, members sorted by name; a tensor of one element is a scalar, any other a flat array.
// The response's own error, or why it can not be written. Requires: it has a response to write (not only_ends).
StatusOr<std::string> WriteResponse(const Request& request, const Response& response);

}  // namespace pyinfer::v2_generate
