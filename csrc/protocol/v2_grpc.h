// SPDX-License-Identifier: Apache-2.0
// v2_grpc.h - ModelInferRequest and ModelInferResponse <-> Request and Response. No HTTP/2, no socket.
//
// Source: the KServe v2 protocol with Triton's extensions, package `inference`.
#pragma once

#include "base/status.h"
#include "infer/request.h"
#include "infer/response.h"
#include "memory/message_buffer.h"
#include "memory/output.h"

namespace pyinfer::v2_grpc {

// Fills `request` from a serialized ModelInferRequest. Raw tensor data stays where it is: the inputs hold slices of
// `message`. What lies apart of that is whole raw tensors. Data types of inputs without raw data are the client's;
// ValidateRequest checks whether they fit.
Status ReadRequest(const ReceivedMessage& message, Request& request);

// The serialized ModelInferResponse, with gRPC's 5-byte prefix. Tensor data is shared, not copied, where it is large.
StatusOr<Output> WriteResponse(const Request& request, const Response& response);

// The serialized ModelStreamInferResponse for each thing that a stream answers, all with gRPC's prefix; `final`: no
// more will follow for this request.
StatusOr<Output> WriteStreamResponse(const Request& request, const Response& response, bool final);
// An error. It names the model and says whether it is final only where the request was accepted by the model.
Output WriteStreamError(const Request& request, const Status& status, bool final);
// Says nothing but that there are no more.
Output WriteStreamEnd(const Request& request);

}  // namespace pyinfer::v2_grpc
