// SPDX-License-Identifier: Apache-2.0
// v2_grpc.h - ModelInferRequest and ModelInferResponse <-> Request and Response. No HTTP/2, no socket.
//
// Source: the KServe v2 protocol with Triton's extensions, package `inference`.
#pragma once

#include "base/status.h"
#include "infer/request.h"
#include "infer/response.h"
#include "memory/output.h"

namespace pyinfer::v2_grpc {

// Fills `request` from a serialized ModelInferRequest. Raw tensor data stays where it is: the inputs hold slices of
// `message`. Data types of inputs without raw data are the client's; ValidateRequest checks whether they fit.
Status ReadRequest(const Slice& message, Request& request);

// The serialized ModelInferResponse, with gRPC's 5-byte prefix. Tensor data is shared, not copied, where it is large.
StatusOr<Output> WriteResponse(const Request& request, const Response& response);

}  // namespace pyinfer::v2_grpc
