// SPDX-License-Identifier: Apache-2.0
#include "protocol/grpc_unary.h"

#include <utility>

#include "protocol/grpc_request.h"
#include "protocol/v2_grpc.h"

namespace pyinfer {

UnaryInfer::UnaryInfer(std::shared_ptr<GrpcHost> host, int32_t call, Compression encoding, CompressionLevel level)
    : host_(std::move(host)), call_(call), encoding_(encoding), level_(level) {
  ++host_->outstanding;
}

void UnaryInfer::Submit(GrpcCall& call, const ReceivedMessage& message, TimeNs received) {
  RequestAcceptor& acceptor = host_->mailbox().acceptor();
  auto request = std::make_unique<Request>(shared_from_this());
  request->transport = Transport::kGrpc;
  request->slow_to_answer = encoding_ != Compression::kIdentity;
  request->trace_context = std::move(call.trace_context);
  request->timeline.receiving = call.received;
  request->timeline.received = received;
  Status status = PrepareRequest(message, call.forwarded, acceptor, *request);
  if (status.ok() && request->model->decoupled) {
    status = Status::Unsupported("ModelInfer RPC doesn't support models with decoupled transaction policy");
  }
  if (!status.ok()) return request->Fail(FailureReason::kOther, std::move(status));
  acceptor.Submit(std::move(request));
}

void UnaryInfer::Send(const Request& request, Response response, bool) noexcept {
  status_ = std::move(response.status);
  trace_ = request.trace;
  if (status_.ok() && !cancelled()) {
    StatusOr<Output> message = v2_grpc::WriteResponse(request, response);
    if (!message.ok()) {
      status_ = message.status();
    } else if (encoding_ == Compression::kIdentity) {
      message_ = std::move(message).value();
    } else {
      message_ = CompressMessage(std::move(message).value(), encoding_, level_);
    }
  }
  host_->mailbox().Post(shared_from_this());
}

void UnaryInfer::Deliver() {
  --host_->outstanding;
  if (cancelled()) return;
  if (trace_) host_->Trace(call_, std::move(trace_));
  if (status_.ok()) host_->SendMessage(call_, std::move(message_));
  host_->End(call_, status_);
}

}  // namespace pyinfer
