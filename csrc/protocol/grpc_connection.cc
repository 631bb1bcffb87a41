// SPDX-License-Identifier: Apache-2.0
#include "protocol/grpc_connection.h"

#include <algorithm>
#include <array>
#include <limits>

#include "protocol/error_map.h"
#include "protocol/v2_grpc.h"
#include "wire/grpc_text.h"
#include "wire/gzip.h"

namespace pyinfer {
namespace {

constexpr std::string_view kInferPath = "/inference.GRPCInferenceService/ModelInfer";
constexpr size_t kPrefixSize = 5;
// A connection with more than this in answers, none of which its client has taken for a while, gets no new ones.
constexpr size_t kMaxUnsent = size_t{64} << 20;
constexpr TimeNs kUnreadAfter = 1'000'000'000;

Status TooLarge(uint64_t size, uint64_t limit) {
  return {Code::kResourceExhausted,
          "Received message larger than max (" + std::to_string(size) + " vs. " + std::to_string(limit) + ")"};
}

}  // namespace

// One unary call, from its headers to its answer.
struct GrpcConnection::Call {
  enum class Kind { kUnknown, kInfer, kControl };

  Kind kind = Kind::kUnknown;
  bool post = false;
  bool grpc = false;
  std::string path;  // not kept for kInfer
  std::string encoding;
  std::string timeout;
  bool has_timeout = false;
  TimeNs received = 0;
  uint64_t read = 0;  // the number of the read that brought the headers
  std::unique_ptr<TraceContext> trace_context;

  std::array<uint8_t, kPrefixSize> prefix{};
  size_t prefix_size = 0;
  uint64_t message_size = 0;  // as announced by the prefix
  GrowingBuffer message;
  bool overlong = false;  // there was more than one message

  bool ended = false;     // the client has sent everything
  bool answered = false;  // an answer was submitted
  bool handed_out = false;
  std::optional<Mailbox::Timer> deadline;
  std::shared_ptr<InferCall> infer;
  std::shared_ptr<Trace> trace;  // of the answer that is being sent

  TraceContext& context() {
    if (!trace_context) trace_context = std::make_unique<TraceContext>();
    return *trace_context;
  }
};

// The way of one request's answer back to its stream.
class GrpcConnection::InferCall final : public CompletionSink,
                                        public Delivery,
                                        public std::enable_shared_from_this<InferCall> {
 public:
  InferCall(std::shared_ptr<GrpcConnection> connection, int32_t stream)
      : connection_(std::move(connection)), stream_(stream) {
    connection_->outstanding_.fetch_add(1, std::memory_order_relaxed);
  }

  void Send(const Request& request, Response response, bool) noexcept override {
    status_ = std::move(response.status);
    trace_ = request.trace;
    if (status_.ok() && !cancelled()) {
      StatusOr<Output> message = v2_grpc::WriteResponse(request, response);
      if (message.ok()) {
        message_ = std::move(message).value();
      } else {
        status_ = message.status();
      }
    }
    connection_->mailbox_->Post(shared_from_this());
  }

  bool cancelled() const noexcept override { return cancelled_.load(std::memory_order_relaxed); }
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }

  void Deliver() override {
    connection_->outstanding_.fetch_sub(1, std::memory_order_relaxed);
    if (cancelled()) return;
    Call* call = connection_->FindOpen(stream_);
    if (call == nullptr) return;
    call->trace = std::move(trace_);
    if (call->trace) call->trace->BeginSend();
    if (status_.ok()) {
      connection_->SendMessage(stream_, *call, std::move(message_));
    } else {
      connection_->SendStatus(stream_, *call, status_);
    }
  }

 private:
  const std::shared_ptr<GrpcConnection> connection_;
  const int32_t stream_;
  std::atomic<bool> cancelled_{false};
  Status status_;
  Output message_;
  std::shared_ptr<Trace> trace_;
};

GrpcConnection::GrpcConnection(std::shared_ptr<Mailbox> mailbox, uint64_t id, std::shared_ptr<const Options> options)
    : Connection(id), mailbox_(std::move(mailbox)), options_(std::move(options)), session_(*this, [&] {
        Http2Session::Options http2;
        http2.max_concurrent_streams = options_->max_concurrent_streams;
        return http2;
      }()) {}

// Its timers must not outlive it.
GrpcConnection::~GrpcConnection() { Close(); }

void GrpcConnection::Receive(const uint8_t* data, size_t size) {
  if (closed_) return;
  ++reads_;
  session_.Receive(data, size);
  mailbox_->MarkReady(*this);
}

void GrpcConnection::OnHeader(int32_t stream, std::string_view name, std::string_view value) {
  Call& call = calls_[stream];
  if (name == ":path") {
    if (value == kInferPath) {
      call.kind = Call::Kind::kInfer;
    } else {
      call.path = value;
    }
  } else if (name == ":method") {
    call.post = value == "POST";
  } else if (name == "content-type") {
    call.grpc = IsGrpcContentType(value);
  } else if (name == "grpc-encoding") {
    call.encoding = value;
  } else if (name == "grpc-timeout") {
    call.timeout = value;
    call.has_timeout = true;
  } else if (name == "traceparent") {
    call.context().AddParent(value);
  } else if (name == "tracestate") {
    call.context().AddState(value);
  }
}

void GrpcConnection::OnHeadersTooLarge(int32_t stream) {
  SendStatus(stream, calls_[stream], {Code::kResourceExhausted, "received metadata size exceeds the limit"});
}

Status GrpcConnection::CheckHeaders(const Call& call) const {
  if (call.kind == Call::Kind::kUnknown) return Status::Unsupported("unknown method " + call.path.substr(0, 256));
  if (!call.encoding.empty() && call.encoding != "identity" && call.encoding != "gzip" && call.encoding != "deflate") {
    return Status::Unsupported("grpc-encoding '" + call.encoding.substr(0, 64) +
                               "' is not supported: use identity, deflate or gzip");
  }
  if (session_.unsent() > kMaxUnsent && call.received - last_sent_ > kUnreadAfter) {
    return {Code::kResourceExhausted, "the client does not read its answers: " + std::to_string(session_.unsent()) +
                                          " bytes of this connection are waiting"};
  }
  if (outstanding_.load(std::memory_order_relaxed) >= 2 * size_t{options_->max_concurrent_streams}) {
    return Status::Unavailable("too many requests of this connection are still being executed");
  }
  return Status();
}

Status GrpcConnection::StartDeadline(int32_t stream, Call& call) {
  if (!call.has_timeout) return Status();
  const auto timeout = ParseGrpcTimeout(call.timeout);
  if (!timeout)
    return Status::Internal("malformed grpc-timeout: expecting up to 8 digits and a unit (H, M, S, m, u, n)");
  if (*timeout == 0) return {Code::kDeadlineExceeded, "Deadline Exceeded"};
  call.deadline = mailbox_->AddTimer(call.received + *timeout, [this, stream] { Expire(stream); });
  return Status();
}

void GrpcConnection::OnHeadersEnd(int32_t stream) {
  Call& call = calls_[stream];
  if (call.answered) return;
  call.received = mailbox_->acceptor().Now();
  call.read = reads_;
  if (!call.post || !call.grpc) {
    call.answered = true;
    session_.RespondHeaders(stream, {{":status", call.post ? "415" : "405"}});
    session_.StopReceiving(stream);
    return;
  }
  const bool known = call.kind == Call::Kind::kUnknown && options_->paths.count(call.path) != 0;
  if (known) call.kind = Call::Kind::kControl;
  Status status = CheckHeaders(call);
  if (status.ok()) status = StartDeadline(stream, call);
  if (!status.ok()) SendStatus(stream, call, status);
}

void GrpcConnection::OnData(int32_t stream, const uint8_t* data, size_t size) {
  Call* call = FindOpen(stream);
  if (call == nullptr) return;
  if (call->prefix_size < kPrefixSize) {
    const size_t now = std::min(size, kPrefixSize - call->prefix_size);
    std::copy_n(data, now, call->prefix.begin() + static_cast<std::ptrdiff_t>(call->prefix_size));
    call->prefix_size += now;
    data += now;
    size -= now;
    if (call->prefix_size < kPrefixSize) return;
    call->message_size = 0;
    for (size_t i = 1; i < kPrefixSize; ++i) call->message_size = call->message_size << 8 | call->prefix[i];
    if (call->message_size > options_->max_message_size) {
      return SendStatus(stream, *call, TooLarge(call->message_size, options_->max_message_size));
    }
    call->message.Expect(static_cast<size_t>(call->message_size));
  }
  if (size > call->message_size - call->message.size()) {
    call->overlong = true;
    return SendStatus(stream, *call, Status::Internal("a unary call carries exactly one message"));
  }
  call->message.Append(data, size);
}

void GrpcConnection::OnEnd(int32_t stream) {
  const auto found = calls_.find(stream);
  if (found == calls_.end()) return;
  Call& call = found->second;
  call.ended = true;
  if (call.answered) return;
  StatusOr<Slice> message = FinishMessage(call);
  if (!message.ok()) return SendStatus(stream, call, message.status());
  if (call.kind == Call::Kind::kInfer) return Infer(stream, call, std::move(message).value());
  call.handed_out = true;
  control_calls_.push_back({stream, call.path, std::move(message).value()});
}

StatusOr<Slice> GrpcConnection::FinishMessage(Call& call) const {
  if (call.prefix_size < kPrefixSize || call.message.size() != call.message_size) {
    return Status::Internal("the call ended before its message was complete");
  }
  Slice message = call.message.Take();
  if (call.prefix[0] == 0) return message;
  if (call.prefix[0] != 1 || call.encoding.empty() || call.encoding == "identity") {
    return Status::Internal("a message is marked as compressed, but the call names no grpc-encoding for it");
  }
  const Compression compression = call.encoding == "gzip" ? Compression::kGzip : Compression::kDeflate;
  return Decompress(compression, message, options_->max_message_size);
}

void GrpcConnection::Infer(int32_t stream, Call& call, Slice message) {
  auto self = std::static_pointer_cast<GrpcConnection>(shared_from_this());
  call.infer = std::make_shared<InferCall>(std::move(self), stream);
  auto request = std::make_unique<Request>(call.infer);
  request->transport = Transport::kGrpc;
  request->trace_context = std::move(call.trace_context);
  request->timeline.receiving = call.received;
  request->timeline.received = call.read == reads_ ? call.received : mailbox_->acceptor().Now();
  request->regions = &mailbox_->acceptor().shared_memory();
  Status status = v2_grpc::ReadRequest(message, *request);
  if (status.ok()) status = mailbox_->acceptor().Resolve(*request);
  if (status.ok() && request->model->decoupled) {
    status = Status::Unsupported("ModelInfer RPC doesn't support models with decoupled transaction policy");
  }
  if (!status.ok()) return request->Fail(FailureReason::kOther, std::move(status));
  mailbox_->acceptor().Submit(std::move(request));
}

std::vector<GrpcConnection::ControlCall> GrpcConnection::TakeCalls() { return std::exchange(control_calls_, {}); }

GrpcConnection::Call* GrpcConnection::FindOpen(int32_t stream) {
  const auto found = calls_.find(stream);
  return found == calls_.end() || found->second.answered ? nullptr : &found->second;
}

void GrpcConnection::Respond(int32_t id, std::string_view message) {
  Call* call = FindOpen(id);
  if (call == nullptr) return;
  std::string framed(kPrefixSize, '\0');
  for (size_t i = 0; i < 4; ++i) framed[1 + i] = static_cast<char>(message.size() >> (24 - 8 * i));
  framed += message;
  Output output;
  output.Append(framed);
  SendMessage(id, *call, std::move(output));
}

void GrpcConnection::Fail(int32_t id, const Status& status) {
  if (Call* call = FindOpen(id)) SendStatus(id, *call, status);
}

void GrpcConnection::SendMessage(int32_t stream, Call& call, Output message) {
  Forget(call);
  session_.Respond(stream, {{":status", "200"}, {"content-type", kGrpcContentType}}, std::move(message),
                   {{"grpc-status", "0"}});
  mailbox_->MarkReady(*this);
}

void GrpcConnection::SendStatus(int32_t stream, Call& call, const Status& status) {
  Forget(call);
  const std::string code = std::to_string(ErrorRowOf(status.code()).grpc_status);
  const std::string message = EncodeGrpcMessage(status.message());
  Headers headers = {{":status", "200"}, {"content-type", kGrpcContentType}, {"grpc-status", code}};
  if (!message.empty()) headers.emplace_back("grpc-message", message);
  if (status.code() == Code::kUnsupported) headers.emplace_back("grpc-accept-encoding", "identity,deflate,gzip");
  session_.RespondHeaders(stream, headers);
  if (!call.ended) session_.StopReceiving(stream);
  mailbox_->MarkReady(*this);
}

// The call is being answered: nothing else may answer it, and what was received for it is not needed any more.
void GrpcConnection::Forget(Call& call) {
  call.answered = true;
  call.message = GrowingBuffer();
  if (call.deadline) mailbox_->RemoveTimer(*call.deadline);
  call.deadline.reset();
  call.infer.reset();
}

void GrpcConnection::Expire(int32_t stream) {
  const auto found = calls_.find(stream);
  if (found == calls_.end()) return;
  Call& call = found->second;
  call.deadline.reset();  // it is the timer that is calling
  if (call.answered) return;
  if (call.infer) {
    call.infer->Cancel();
    mailbox_->acceptor().NoteCancellation();
  }
  SendStatus(stream, call, {Code::kDeadlineExceeded, "Deadline Exceeded"});
}

void GrpcConnection::OnClose(int32_t stream) {
  const auto found = calls_.find(stream);
  if (found == calls_.end()) return;
  Call& call = found->second;
  if (call.infer) {
    call.infer->Cancel();
    mailbox_->acceptor().NoteCancellation();
  }
  Forget(call);
  if (call.trace) call.trace->EndSend();
  calls_.erase(found);
}

size_t GrpcConnection::in_flight() const {
  return static_cast<size_t>(
      std::count_if(calls_.begin(), calls_.end(), [](const auto& item) { return !item.second.answered; }));
}

void GrpcConnection::Drain() {
  if (draining_ || closed_) return;
  draining_ = true;
  session_.GoAway();
  mailbox_->MarkReady(*this);
}

void GrpcConnection::Close() {
  if (std::exchange(closed_, true)) return;
  bool cancelled = false;
  for (auto& [stream, call] : calls_) {
    if (call.infer) {
      call.infer->Cancel();
      cancelled = true;
    }
    Forget(call);
  }
  calls_.clear();
  control_calls_.clear();
  if (cancelled) mailbox_->acceptor().NoteCancellation();
}

void GrpcConnection::Resume() {
  paused_ = false;
  mailbox_->MarkReady(*this);
}

bool GrpcConnection::TakeOutput(Output& output) {
  if (paused_ || closed_) return false;
  const bool more = session_.Send(output, kWriteLimit);
  if (!output.empty()) last_sent_ = mailbox_->acceptor().Now();
  if (more) return mailbox_->MarkReady(*this), false;
  if (session_.finished()) return true;
  // Calls stay in the table until their last byte is handed out.
  return draining_ && calls_.empty();
}

}  // namespace pyinfer
