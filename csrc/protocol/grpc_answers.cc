// SPDX-License-Identifier: Apache-2.0
// The answers of a GrpcConnection and the ends of its calls; grpc_connection.cc has what comes in.
#include <utility>

#include "protocol/error_map.h"
#include "protocol/grpc_connection.h"
#include "protocol/grpc_stream.h"
#include "protocol/grpc_unary.h"
#include "wire/grpc_text.h"

namespace pyinfer {

std::vector<GrpcConnection::ControlEvent> GrpcConnection::TakeEvents() { return std::exchange(events_, {}); }

GrpcConnection::Call* GrpcConnection::FindOpen(int32_t stream) {
  const auto found = calls_.find(stream);
  return found == calls_.end() || found->second.answered ? nullptr : &found->second;
}

void GrpcConnection::Send(int32_t stream, std::string_view message) {
  if (Call* call = FindOpen(stream)) call->asked = false;
  SendMessage(stream, FrameMessage(message));
}

void GrpcConnection::Trace(int32_t stream, std::shared_ptr<pyinfer::Trace> trace) {
  Call* call = FindOpen(stream);
  if (call == nullptr) return;
  call->trace = std::move(trace);
  call->trace->BeginSend();
}

void GrpcConnection::SendMessage(int32_t stream, Output message) {
  Call* call = FindOpen(stream);
  if (call == nullptr) return;
  if (!std::exchange(call->started, true)) {
    Headers headers = {{":status", "200"}, {"content-type", kGrpcContentType}};
    if (call->route->infers() && call->answer_encoding != Compression::kIdentity) {
      headers.emplace_back("grpc-encoding", CompressionName(call->answer_encoding));
    }
    session_.Start(stream, headers);
  }
  session_.Write(stream, std::move(message));
  mailbox_->MarkReady(*this);
}

void GrpcConnection::End(int32_t stream, const Status& status) {
  Call* call = FindOpen(stream);
  if (call == nullptr) return;
  Forget(stream, *call);
  const std::string code = std::to_string(ErrorRowOf(status.code()).grpc_status);
  const std::string message = EncodeGrpcMessage(status.message());
  Headers trailers = {{"grpc-status", code}};
  if (!message.empty()) trailers.emplace_back("grpc-message", message);
  if (call->started) {
    session_.Finish(stream, trailers);
  } else {
    trailers.insert(trailers.begin(), {{":status", "200"}, {"content-type", kGrpcContentType}});
    if (status.code() == Code::kUnsupported) trailers.emplace_back("grpc-accept-encoding", kGrpcEncodings);
    session_.RespondHeaders(stream, trailers);
  }
  if (!call->ended) session_.StopReceiving(stream);
  mailbox_->MarkReady(*this);
}

void GrpcConnection::Break(int32_t stream, const Status& status) {
  session_.DropUnsent(stream);
  End(stream, status);
}

// The call is being answered: nothing else may answer it, and what was received for it is not needed any more.
void GrpcConnection::Forget(int32_t stream, Call& call) {
  call.answered = true;
  call.reader = MessageReader();
  session_.Consume(stream, call.held.size());
  call.held = HeldBytes();
  RemoveTimer(call.deadline);
  RemoveTimer(call.stall);
  call.infer.reset();
  if (call.stream) call.stream->Close();
}

// True where something is being executed for the call.
bool GrpcConnection::Cancel(Call& call) {
  if (call.infer) call.infer->Cancel();
  if (call.stream) call.stream->Close();
  return call.infer != nullptr;
}

void GrpcConnection::RemoveTimer(std::optional<Mailbox::Timer>& timer) {
  if (timer) mailbox_->RemoveTimer(*timer);
  timer.reset();
}

void GrpcConnection::GiveUp(int32_t stream, const Status& status) {
  Call* call = FindOpen(stream);
  if (call == nullptr) return;
  if (Cancel(*call)) mailbox_->acceptor().NoteCancellation();
  if (call->streams() && !call->stream) events_.push_back({ControlEvent::Kind::kGone, stream, call->path, Slice()});
  Break(stream, status);
}

void GrpcConnection::OnClose(int32_t stream) {
  const auto found = calls_.find(stream);
  if (found == calls_.end()) return;
  Call& call = found->second;
  if (Cancel(call)) mailbox_->acceptor().NoteCancellation();
  if (!call.answered && call.streams() && !call.stream) {
    events_.push_back({ControlEvent::Kind::kGone, stream, call.path, Slice()});
  }
  Forget(stream, call);
  if (call.trace) call.trace->EndSend();
  calls_.erase(found);
}

}  // namespace pyinfer
