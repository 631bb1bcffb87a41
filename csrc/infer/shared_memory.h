// SPDX-License-Identifier: Apache-2.0
// shared_memory.h - what the shared memory that a request names means for its inputs and its responses.
#pragma once

#include "infer/request.h"
#include "infer/response.h"

namespace pyinfer {

// Takes the data of `input` from `part`. Fixed-size elements stay where they are, be it on a device, so that a client
// that writes to them meanwhile gets what it asked for; BYTES, whose lengths are checked, are copied first.
Status ReadInput(const SharedMemoryPart& part, Tensor& input, Request& request);

// Copies inputs that are on a device to memory of the host.
Status MoveInputsToHost(Request& request);

// Where in shared memory the output is wanted; null where it goes into the response.
const SharedMemoryPart* DestinationOf(const Request& request, const Tensor& output);

// Puts the outputs of `response` where the request wants them. The response becomes an error where one does not fit, or
// where a region has broken since the request came: no answer is made of what was not there. Nothing is written for a
// client that has gone.
void PlaceOutputs(const Request& request, Response& response) noexcept;

}  // namespace pyinfer
