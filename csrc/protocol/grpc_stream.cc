// SPDX-License-Identifier: Apache-2.0
#include "protocol/grpc_stream.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <string>
#include <utility>

#include "infer/completion.h"
#include "protocol/connection.h"
#include "protocol/grpc_request.h"
#include "protocol/v2_grpc.h"

namespace pyinfer {
namespace {

// What one call may hold: requests that are not answered, their bytes, and bytes of responses that are not taken (those
// to be expected included).
constexpr size_t kMaxRequests = 1024;
constexpr size_t kMaxRequestBytes = size_t{64} << 20;
constexpr size_t kMaxResponseBytes = size_t{64} << 20;
// Nothing holds up a decoupled model that makes responses which nobody takes; with so many bytes of them the call ends.
constexpr size_t kMaxUntaken = size_t{256} << 20;

}  // namespace

// One response on its way from the model's thread.
struct InferStream::Part {
  Status status;
  Output message;  // empty where there is nothing to be said
  bool final = false;
  std::shared_ptr<Trace> trace;
};

// The way of one request's responses back to the call.
class InferStream::Sink final : public CompletionSink, public Delivery, public std::enable_shared_from_this<Sink> {
 public:
  Sink(std::shared_ptr<InferStream> stream, size_t request_bytes)
      : request_bytes(request_bytes), stream_(std::move(stream)) {}

  void Send(const Request& request, Response response, bool final) noexcept override {
    Part part = cancelled() ? Part() : Write(request, std::move(response), final);
    part.final = final;
    part.trace = request.trace;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      parts_.push_back(std::move(part));
      if (std::exchange(posted_, true)) return;
    }
    stream_->host_->mailbox().Post(shared_from_this());
  }

  bool cancelled() const noexcept override { return cancelled_.load(std::memory_order_relaxed); }
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }

  void Deliver() override {
    std::vector<Part> parts;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      parts.swap(parts_);
      posted_ = false;
    }
    stream_->Deliver(*this, std::move(parts));
  }

  const size_t request_bytes;
  bool decoupled = false;
  std::optional<Part> answer;  // of a model that is not decoupled, until it is its turn

 private:
  Part Write(const Request& request, Response response, bool final) const {
    Part part;
    part.status = std::move(response.status);
    if (part.status.ok() && response.only_ends) {
      if (request.wants_empty_final_response) part.message = v2_grpc::WriteStreamEnd(request);
    } else if (part.status.ok()) {
      StatusOr<Output> message = v2_grpc::WriteStreamResponse(request, response, final);
      if (message.ok()) {
        part.message = std::move(message).value();
      } else {
        part.status = message.status();
      }
    }
    if (!part.status.ok()) part.message = v2_grpc::WriteStreamError(request, part.status, final);
    if (stream_->encoding_ != Compression::kIdentity && !part.message.empty()) {
      part.message = CompressMessage(std::move(part.message), stream_->encoding_, stream_->level_);
    }
    return part;
  }

  const std::shared_ptr<InferStream> stream_;
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
  std::vector<Part> parts_;
  bool posted_ = false;
};

InferStream::InferStream(std::shared_ptr<GrpcHost> host, int32_t id, const GrpcCall& call, CompressionLevel level)
    : host_(std::move(host)),
      id_(id),
      encoding_(call.answer_encoding),
      level_(level),
      errors_end_(call.errors_end),
      forwarded_(call.forwarded),
      trace_context_(call.trace_context ? std::make_unique<TraceContext>(*call.trace_context) : nullptr) {}

void InferStream::Receive(const ReceivedMessage& message, TimeNs received) {
  if (closed_ || draining_) return;
  RequestAcceptor& acceptor = host_->mailbox().acceptor();
  const auto sink = std::make_shared<Sink>(shared_from_this(), message.bytes.size());
  auto request = std::make_unique<Request>(sink);
  request->transport = Transport::kGrpc;
  request->slow_to_answer = encoding_ != Compression::kIdentity;
  if (trace_context_) request->trace_context = std::make_unique<TraceContext>(*trace_context_);
  request->timeline.receiving = request->timeline.received = received;
  Status status = PrepareRequest(message, forwarded_, acceptor, *request);
  ++host_->outstanding;
  request_bytes_ += message.bytes.size();
  sink->decoupled = status.ok() && request->model->decoupled;
  if (sink->decoupled) {
    decoupled_.insert(sink);
  } else {
    ordered_.push_back(sink);
  }
  if (!status.ok()) return request->Fail(FailureReason::kOther, std::move(status));
  acceptor.Submit(std::move(request));
}

void InferStream::ReceiveEnd() {
  ended_ = true;
  EndIfDone();
}

void InferStream::Drain() {
  draining_ = true;
  EndIfDone();
}

void InferStream::Close() {
  if (std::exchange(closed_, true)) return;
  const bool any = !ordered_.empty() || !decoupled_.empty();
  for (const SinkPtr& sink : ordered_) sink->Cancel();
  for (const SinkPtr& sink : decoupled_) sink->Cancel();
  ordered_.clear();
  decoupled_.clear();
  if (any) host_->mailbox().acceptor().NoteCancellation();
}

bool InferStream::Holds(size_t requests, size_t request_bytes, size_t response_bytes) const {
  const size_t open = ordered_.size() + decoupled_.size();
  return open >= requests || request_bytes_ >= request_bytes ||
         host_->unsent(id_) + open * largest_response_ >= response_bytes;
}

bool InferStream::full() const { return Holds(kMaxRequests, kMaxRequestBytes, host_->MayLeave(kMaxResponseBytes)); }
bool InferStream::has_room() const {
  return (ordered_.empty() && decoupled_.empty() && host_->unsent(id_) == 0) ||
         !Holds(kMaxRequests / 2, kMaxRequestBytes / 2, host_->MayLeave(kMaxResponseBytes) / 2);
}

void InferStream::Deliver(Sink& sink, std::vector<Part> parts) {
  if (parts.back().final) --host_->outstanding;
  if (closed_) return;
  if (!sink.decoupled) {
    sink.answer = std::move(parts.front());
    return DeliverOrdered();
  }
  for (Part& part : parts) {
    if (part.final) {
      request_bytes_ -= sink.request_bytes;
      decoupled_.erase(sink.shared_from_this());
    }
    if (!Emit(std::move(part))) return;
  }
  EndIfDone();
}

void InferStream::DeliverOrdered() {
  while (!ordered_.empty() && ordered_.front()->answer) {
    const SinkPtr sink = std::move(ordered_.front());
    ordered_.pop_front();
    request_bytes_ -= sink->request_bytes;
    if (!Emit(std::move(*sink->answer))) return;
  }
  EndIfDone();
}

bool InferStream::Emit(Part part) {
  // The host closes this stream while it ends the call.
  if (!part.status.ok() && errors_end_) return host_->End(id_, part.status), false;
  if (part.message.empty()) return true;
  largest_response_ = std::max(largest_response_, part.message.size());
  if (!decoupled_.empty() && host_->unsent(id_) > host_->MayLeave(kMaxUntaken)) {
    host_->Break(id_, {Code::kResourceExhausted,
                       "the client does not read its responses: " + std::to_string(host_->unsent(id_)) +
                           " bytes of this stream are waiting"});
    return false;
  }
  if (part.trace) part.trace->BeginSend();
  host_->SendMessage(id_, std::move(part.message));
  if (part.trace) part.trace->EndSend();
  return true;
}

void InferStream::EndIfDone() {
  if (closed_ || !ordered_.empty() || !decoupled_.empty()) return;
  if (ended_) return host_->End(id_, Status());
  if (draining_) {
    host_->End(id_, Status::Unavailable("GRPC server is shutting down and has stopped accepting new requests."));
  }
}

}  // namespace pyinfer
