// SPDX-License-Identifier: Apache-2.0
// grpc_call.h - one unary call, for what a load test asks the server beside the load.
#pragma once

#include <string>

#include "base/status.h"
#include "load/session.h"
#include "load/tls_client.h"

namespace pyinfer {

// Connects, sends `message` (without the five bytes before it), blocks until the answer has come or `timeout_s` is
// over. Inside TLS where `tls` is not nullptr. The answer's message, or why there is none; a status of the server other
// than OK is "NAME: text".
StatusOr<std::string> CallGrpc(const std::string& address, uint16_t port, const ClientHeaders& headers,
                               const std::string& message, double timeout_s, const TlsClient* tls = nullptr);

}  // namespace pyinfer
