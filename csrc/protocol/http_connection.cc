// SPDX-License-Identifier: Apache-2.0
#include "protocol/http_connection.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "protocol/parameters.h"
#include "protocol/v2_http.h"

namespace pyinfer {
namespace {

// Reading more than this takes about as long as handing it to another thread (some 100 us).
constexpr size_t kInlineJson = size_t{256} << 10;
// Compressed bytes can stand for a thousand times as many.
constexpr size_t kInlineCompressed = size_t{8} << 10;
// Room for a body grows with what has been received, from this.
constexpr size_t kFirstRoom = size_t{256} << 10;

// Moves what fits from `answer`, of which the first `piece` pieces and `offset` bytes of the next are gone; true when
// all is gone.
bool MoveSome(Output& answer, size_t& piece, size_t& offset, Output& output) {
  if (output.size() >= Connection::kWriteLimit) return false;
  if (output.empty() && piece == 0 && offset == 0 && answer.size() <= Connection::kWriteLimit) {
    output = std::move(answer);
    return true;
  }
  for (; piece < answer.pieces().size(); ++piece, offset = 0) {
    const Slice& from = answer.pieces()[piece];
    const size_t room = Connection::kWriteLimit - std::min(Connection::kWriteLimit, output.size());
    const size_t size = std::min(room, from.size() - offset);
    output.Append(from.Sub(offset, size));
    offset += size;
    if (offset < from.size()) return false;
  }
  output.Append(answer.tail());  // no more than a few KiB
  return true;
}

bool IsLarge(Compression compression, const std::optional<std::string>& header_length, size_t body_size) {
  if (compression != Compression::kIdentity) return body_size > kInlineCompressed;
  StatusOr<size_t> json_size = v2_http::ReadJsonSize(header_length, body_size);
  return json_size.ok() && json_size.value() > kInlineJson;
}

}  // namespace

// One infer request on its way: takes its answer on whatever thread, and brings it to its place on the loop's.
class HttpConnection::Exchange final : public CompletionSink,
                                       public Delivery,
                                       public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(std::shared_ptr<HttpConnection> connection, uint64_t place, bool keep_alive)
      : connection_(std::move(connection)), place_(place) {
    format.keep_alive = keep_alive;
  }

  // Written while the request is read, before it is submitted.
  v2_http::AnswerFormat format;

  void Send(const Request& request, Response response, bool) noexcept override {
    if (cancelled()) return;
    trace_ = request.trace;
    try {
      answer_ = v2_http::WriteResponse(request, response, format);
    } catch (const std::exception&) {
      answer_ = v2_http::WriteError(Status::Internal("the answer does not fit into memory"), format.keep_alive);
    }
    connection_->mailbox_->Post(shared_from_this());
  }

  bool cancelled() const noexcept override { return connection_->closed_.load(std::memory_order_relaxed); }

  void Deliver() override { connection_->Fill(place_, std::move(answer_), !format.keep_alive, std::move(trace_)); }

 private:
  const std::shared_ptr<HttpConnection> connection_;
  const uint64_t place_;
  Output answer_;
  std::shared_ptr<Trace> trace_;
};

Status HttpConnection::ParseJob::Read() {
  if (compression_ != Compression::kIdentity) {
    StatusOr<Slice> plain = Decompress(compression_, body_, max_input_size_);
    if (plain.status().code() == Code::kResourceExhausted) {
      return Status::InvalidArg("Request decompressed size exceeds the maximum allowed value of " +
                                std::to_string(max_input_size_) +
                                " bytes. Use --http-max-input-size to increase the limit.");
    }
    if (!plain.ok()) return plain.status();
    body_ = std::move(plain).value();
  }
  Status status = v2_http::ReadRequest(body_, header_length_, max_input_size_, *request_, exchange_->format.outputs);
  request_->parameters.insert(request_->parameters.end(), forwarded_.begin(), forwarded_.end());
  return status;
}

void HttpConnection::ParseJob::Run(bool dispatch) {
  if (!request_) return;
  RequestPtr request;
  Status status;
  try {
    status = Read();
  } catch (const std::exception&) {
    status = Status::Unavailable("the request does not fit into memory");
  }
  request = std::move(request_);
  body_ = Slice();
  if (!status.ok()) return request->Fail(FailureReason::kOther, std::move(status));
  mailbox_->acceptor().Submit(std::move(request));
  if (dispatch) mailbox_->acceptor().Dispatch();
}

HttpConnection::HttpConnection(std::shared_ptr<Mailbox> mailbox, uint64_t id, Options options)
    : Connection(id), mailbox_(std::move(mailbox)), options_(options) {}

void HttpConnection::NoteBody() {
  body_split_ = body_begun_ != 0;
  if (!body_split_) body_begun_ = mailbox_->acceptor().Now();
}

Slice HttpConnection::TakeBody() {
  body_begun_ = 0;
  return body_.Take();
}

bool HttpConnection::Append(std::string_view chunk) {
  if (chunk.size() > options_.max_body_size - std::min(options_.max_body_size, body_.size())) return false;
  body_.Append(chunk.data(), chunk.size());
  NoteBody();
  return true;
}

HttpConnection::Room HttpConnection::BodyBuffer(size_t size) {
  const size_t allowed = options_.max_body_size - std::min(options_.max_body_size, body_.size());
  size = std::min({size, allowed, std::max(kFirstRoom, body_.size())});
  NoteBody();
  return {body_.Prepare(size), size};
}

HttpConnection::InferHead::InferHead(InferCall call)
    : model_(std::move(call.model)),
      version_(ParseVersion(call.version)),
      header_length_(std::move(call.header_length)),
      body_compression_(ParseContentEncoding(call.content_encoding)),
      answer_compression_(ChooseCompression(call.accept_encoding)),
      keep_alive_(call.keep_alive),
      forwarded_(std::move(call.forwarded)),
      refusal_(std::move(call.refusal)) {}

std::unique_ptr<HttpConnection::ParseJob> HttpConnection::Infer(const InferHead& head, bool last,
                                                                std::unique_ptr<TraceContext> context) {
  const TimeNs begun = body_begun_;
  Slice body = TakeBody();
  if (closed_) return nullptr;
  const uint64_t place = Open();
  const bool keep_alive = head.keep_alive_ && !last;
  if (head.body_compression_ == Compression::kUnknown) {
    Fill(place, v2_http::WriteUnknownCompression(keep_alive), !keep_alive);
    return nullptr;
  }
  auto self = std::static_pointer_cast<HttpConnection>(shared_from_this());
  auto exchange = std::make_shared<Exchange>(std::move(self), place, keep_alive);
  auto request = std::make_unique<Request>(exchange);
  request->transport = Transport::kHttp;
  request->trace_context = std::move(context);
  request->timeline.received = begun != 0 && !body_split_ ? begun : mailbox_->acceptor().Now();
  request->timeline.receiving = begun != 0 ? begun : request->timeline.received;
  request->regions = &mailbox_->acceptor().shared_memory();
  request->model_name = head.model_;
  Status status = head.version_.status();
  if (head.version_.ok()) {
    request->model_version = head.version_.value();
    status = mailbox_->acceptor().Resolve(*request);
  }
  if (status.ok() && request->model->decoupled) {
    status = Status::Unsupported("HTTP end point doesn't support models with decoupled transaction policy");
  }
  if (status.ok() && !head.refusal_.empty()) status = Status::InvalidArg(head.refusal_);
  if (!status.ok()) {
    request->Fail(FailureReason::kOther, std::move(status));
    return nullptr;
  }
  exchange->format.compression = head.answer_compression_;

  ParseJob job;
  job.mailbox_ = mailbox_;
  job.exchange_ = std::move(exchange);
  job.request_ = std::move(request);
  job.body_ = std::move(body);
  job.compression_ = head.body_compression_;
  job.header_length_ = head.header_length_;
  job.forwarded_ = head.forwarded_;
  job.max_input_size_ = options_.max_input_size;
  if (IsLarge(job.compression_, job.header_length_, job.body_.size()))
    return std::make_unique<ParseJob>(std::move(job));
  job.Run(false);
  return nullptr;
}

uint64_t HttpConnection::Open() {
  if (closed_) return first_place_;  // no place: Fill finds none
  places_.emplace_back();
  return first_place_ + places_.size() - 1;
}

void HttpConnection::Fill(uint64_t place, Output answer, bool close, std::shared_ptr<Trace> trace) {
  // Places before the first are gone, and so are all once the connection is closed.
  if (place < first_place_ || place - first_place_ >= places_.size()) return;
  Place& filled = places_[place - first_place_];
  if (filled.ready) return;
  filled.ready = true;
  filled.close = close;
  filled.answer = std::move(answer);
  filled.trace = std::move(trace);
  if (filled.trace) filled.trace->BeginSend();
  if (place == first_place_ && !paused_) mailbox_->MarkReady(*this);
}

void HttpConnection::Respond(uint64_t place, int status, std::optional<std::string_view> body,
                             const std::vector<HttpHeader>& headers, bool keep_alive) {
  std::string head;
  AppendHttpHead(head, status, headers, body ? std::optional(body->size()) : std::nullopt, keep_alive);
  Output answer;
  answer.Append(head);
  if (body && body->size() < Output::kShareFrom) {
    answer.Append(*body);
  } else if (body) {
    answer.Append(Slice::Copy(body->data(), body->size()));
  }
  Fill(place, std::move(answer), !keep_alive);
}

bool HttpConnection::TakeOutput(Output& output) {
  if (paused_) return false;
  while (!places_.empty() && places_.front().ready) {
    Place& front = places_.front();
    if (!MoveSome(front.answer, front.piece, front.offset, output)) {
      mailbox_->MarkReady(*this);
      return false;
    }
    if (front.trace) front.trace->EndSend();
    if (front.close) {
      Close();
      return true;
    }
    places_.pop_front();
    ++first_place_;
  }
  return false;
}

void HttpConnection::Resume() {
  paused_ = false;
  if (!places_.empty() && places_.front().ready) mailbox_->MarkReady(*this);
}

void HttpConnection::Close() {
  if (closed_.exchange(true)) return;
  const bool waiting = std::any_of(places_.begin(), places_.end(), [](const Place& place) { return !place.ready; });
  first_place_ += places_.size();
  places_.clear();
  body_ = GrowingBuffer();
  if (waiting) mailbox_->acceptor().NoteCancellation();
}

}  // namespace pyinfer
