// SPDX-License-Identifier: Apache-2.0
#include "protocol/http_connection.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "memory/recycler.h"
#include "protocol/http_generate.h"
#include "protocol/known_heads.h"
#include "protocol/parameters.h"
#include "protocol/v2_generate.h"
#include "protocol/v2_http.h"

namespace pyinfer {
namespace {

// Reading more than this takes about as long as handing it to another thread (some 100 us).
constexpr size_t kInlineJson = size_t{256} << 10;
// Compressed bytes can stand for a thousand times as many.
constexpr size_t kInlineCompressed = size_t{8} << 10;
// Room for a body grows with what has been received, from this; the memory behind it as GrowingBuffer has it.
constexpr size_t kFirstRoom = size_t{256} << 10;

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

  bool cancelled() const noexcept override { return connection_->closed(); }

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
  Status status =
      exchange_ ? v2_http::ReadRequest(body_, header_length_, max_input_size_, *request_, exchange_->format.outputs)
                : v2_generate::ReadRequest(body_, max_input_size_, *request_);
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
  size = std::min(size, allowed);
  body_.Expect(body_.size() + size);
  size = std::min(size, std::max(kFirstRoom, body_.size()));
  NoteBody();
  return {body_.Prepare(size), size};
}

HttpConnection::InferHead::InferHead(InferCall call)
    : kind_(call.kind),
      model_(std::move(call.model)),
      version_(ParseVersion(call.version)),
      header_length_(std::move(call.header_length)),
      body_compression_(ParseContentEncoding(call.content_encoding)),
      answer_compression_(ChooseCompression(call.accept_encoding)),
      keep_alive_(call.keep_alive),
      chunked_(call.chunked),
      forwarded_(std::move(call.forwarded)),
      refusal_(std::move(call.refusal)) {
  if (kind_ != Kind::kInfer) header_length_.reset();  // there is nothing behind the JSON
}

std::shared_ptr<CompletionSink> HttpConnection::MakeSink(const InferHead& head, uint64_t place, bool keep_alive,
                                                         std::shared_ptr<Exchange>& exchange) {
  auto self = std::static_pointer_cast<HttpConnection>(shared_from_this());
  if (head.kind_ == Kind::kInfer) {
    exchange = std::allocate_shared<Exchange>(RecyclingAllocator<Exchange>(), std::move(self), place, keep_alive);
    exchange->format.compression = head.answer_compression_;
    return exchange;
  }
  if (head.kind_ == Kind::kGenerate) return std::make_shared<GenerateAnswer>(std::move(self), place, keep_alive);
  auto stream = std::make_shared<GenerateStream>(std::move(self), place, head.chunked_, keep_alive);
  places_.back().BeginStream(stream->cancel_flag());
  return stream;
}

Status HttpConnection::Check(const InferHead& head, Request& request) {
  if (!head.version_.ok()) return head.version_.status();
  request.model_version = head.version_.value();
  if (Status status = mailbox_->acceptor().Resolve(request); !status.ok()) return status;
  if (head.kind_ == Kind::kInfer) {
    if (request.model->decoupled) {
      return Status::Unsupported("HTTP end point doesn't support models with decoupled transaction policy");
    }
  } else if (head.body_compression_ != Compression::kIdentity) {
    return Status::InvalidArg("Unsupported content-encoding, only 'identity' is supported.");
  }
  return head.refusal_.empty() ? Status() : Status::InvalidArg(head.refusal_);
}

std::unique_ptr<HttpConnection::ParseJob> HttpConnection::Infer(const InferHead& head, bool last,
                                                                std::unique_ptr<TraceContext> context) {
  const TimeNs begun = body_begun_;
  Slice body = TakeBody();
  if (closed_) return nullptr;
  const uint64_t place = Open();
  const bool keep_alive = head.keep_alive_ && !last;
  if (head.kind_ == Kind::kInfer && head.body_compression_ == Compression::kUnknown) {
    Fill(place, v2_http::WriteUnknownCompression(keep_alive), !keep_alive, nullptr);
    return nullptr;
  }
  ParseJob job;
  auto request = std::make_unique<Request>(MakeSink(head, place, keep_alive, job.exchange_));
  request->transport = Transport::kHttp;
  request->slow_to_answer = head.answer_compression_ != Compression::kIdentity;
  request->trace_context = std::move(context);
  request->timeline.received = begun != 0 && !body_split_ ? begun : mailbox_->acceptor().Now();
  request->timeline.receiving = begun != 0 ? begun : request->timeline.received;
  request->regions = &mailbox_->acceptor().shared_memory();
  request->model_name = head.model_;
  if (Status status = Check(head, *request); !status.ok()) {
    request->Fail(FailureReason::kOther, std::move(status));
    return nullptr;
  }
  job.mailbox_ = mailbox_;
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

size_t HttpConnection::Take(KnownHeads& known, std::string_view received) {
  constexpr std::string_view kEnd = "\r\n\r\n";
  size_t taken = 0;
  while (taken < received.size()) {
    const size_t end = received.find(kEnd, taken);
    if (end == std::string_view::npos) break;
    const size_t begin = end + kEnd.size();
    const KnownHeads::Known* const found = known.Find(received.substr(taken, begin - taken));
    // A larger one is a job for another thread, which nobody would run.
    if (found == nullptr || found->length > received.size() - begin || found->length > kInlineJson) break;
    if (!Append(received.substr(begin, found->length))) break;
    Infer(*found->head);
    taken = begin + found->length;
  }
  return taken;
}

uint64_t HttpConnection::Open() {
  if (closed_) return first_place_;  // no place: Fill finds none
  places_.emplace_back();
  return first_place_ + places_.size() - 1;
}

HttpPlace* HttpConnection::FindOpen(uint64_t place) {
  // Places before the first are gone, and so are all once the connection is closed.
  if (place < first_place_ || place - first_place_ >= places_.size()) return nullptr;
  HttpPlace& found = places_[place - first_place_];
  return found.complete() ? nullptr : &found;
}

void HttpConnection::Notify(uint64_t place) {
  if (place == first_place_ && !paused_) mailbox_->MarkReady(*this);
}

template <typename Change>
void HttpConnection::Counted(HttpPlace& place, Change change) {
  const size_t before = place.unsent();
  change();
  const size_t more = place.unsent() - before;  // wraps around where it is less
  unsent_ += more;
  mailbox_->untaken += more;
}

bool HttpConnection::overrun() const {
  return unsent_ > mailbox_->MayLeave(options_.max_unread_of_all, 8, options_.max_unread);
}

void HttpConnection::Fill(uint64_t place, Output answer, bool close, std::shared_ptr<Trace> trace) {
  HttpPlace* const open = FindOpen(place);
  if (open == nullptr) return;
  open->Fill(std::move(answer), close, std::move(trace));
  Notify(place);
}

void HttpConnection::Stream(uint64_t place, Output part, std::shared_ptr<Trace> trace) {
  HttpPlace* const open = FindOpen(place);
  if (open == nullptr) return;
  Counted(*open, [&] { open->Add(std::move(part), std::move(trace)); });
  Notify(place);
}

void HttpConnection::End(uint64_t place, bool close) {
  HttpPlace* const open = FindOpen(place);
  if (open == nullptr) return;
  open->End(close);
  Notify(place);
}

void HttpConnection::Break(uint64_t place, Output last, bool close) {
  HttpPlace* const open = FindOpen(place);
  if (open == nullptr) return;
  Counted(*open, [&] {
    open->Cancel();
    open->Add(std::move(last), nullptr);
  });
  open->End(close);
  mailbox_->acceptor().NoteCancellation();
  Notify(place);
}

void HttpConnection::HangUp() {
  bool any = false;
  for (HttpPlace& place : places_) {
    if (place.complete() || !place.streams()) continue;
    any = true;
    Counted(place, [&] { place.Cancel(); });
    place.End(/*close=*/true);
  }
  if (!any) return;
  mailbox_->acceptor().NoteCancellation();
  Notify(first_place_);
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
  Fill(place, std::move(answer), !keep_alive, nullptr);
}

bool HttpConnection::TakeOutput(Output& output) {
  if (paused_) return false;
  while (!places_.empty()) {
    HttpPlace& front = places_.front();
    bool moved = false;
    Counted(front, [&] { moved = front.MoveTo(output); });
    if (!moved) {
      mailbox_->MarkReady(*this);
      return false;
    }
    if (!front.complete()) return false;
    if (front.closes()) {
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
  if (!places_.empty() && places_.front().has_output()) mailbox_->MarkReady(*this);
}

void HttpConnection::Close() {
  if (closed_.exchange(true)) return;
  const bool waiting =
      std::any_of(places_.begin(), places_.end(), [](const HttpPlace& place) { return !place.complete(); });
  first_place_ += places_.size();
  places_.clear();
  mailbox_->untaken -= std::exchange(unsent_, 0);
  body_ = GrowingBuffer();
  if (waiting) mailbox_->acceptor().NoteCancellation();
}

}  // namespace pyinfer
