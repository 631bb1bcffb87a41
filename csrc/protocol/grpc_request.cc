// SPDX-License-Identifier: Apache-2.0
#include "protocol/grpc_request.h"

#include "protocol/v2_grpc.h"

namespace pyinfer {

Status PrepareRequest(const ReceivedMessage& message, const Parameters& forwarded, RequestAcceptor& acceptor,
                      Request& request) {
  request.regions = &acceptor.shared_memory();
  if (Status status = v2_grpc::ReadRequest(message, request); !status.ok()) return status;
  request.parameters.insert(request.parameters.end(), forwarded.begin(), forwarded.end());
  return acceptor.Resolve(request);
}

}  // namespace pyinfer
