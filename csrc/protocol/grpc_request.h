// SPDX-License-Identifier: Apache-2.0
// grpc_request.h - from the message of a call of inference to a request that can be submitted. Loop thread.
#pragma once

#include "infer/acceptor.h"
#include "infer/request.h"
#include "memory/message_buffer.h"

namespace pyinfer {

// Decodes `message` into `request` and finds its model; `forwarded` are the headers that become parameters. What an
// error leaves in `request` is enough to answer it.
Status PrepareRequest(const ReceivedMessage& message, const Parameters& forwarded, RequestAcceptor& acceptor,
                      Request& request);

}  // namespace pyinfer
