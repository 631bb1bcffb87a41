// SPDX-License-Identifier: Apache-2.0
#include "protocol/grpc_connection.h"

#include <algorithm>
#include <utility>

#include "protocol/grpc_stream.h"
#include "protocol/grpc_unary.h"
#include "wire/grpc_text.h"

namespace pyinfer {
namespace {

// A connection with more than this in answers, none of which its client has taken for a while, gets no new ones.
constexpr size_t kMaxUnsent = size_t{64} << 20;
constexpr TimeNs kUnreadAfter = 1'000'000'000;
// Of answers to a control call that streams, before the next question is read.
constexpr size_t kMaxUnsentOfControl = size_t{1} << 20;
constexpr uint32_t kEnhanceYourCalm = 11;  // HTTP/2's error code
// Bytes that a message must bring in each message_timeout, or end.
constexpr uint64_t kMinProgress = 4096;
// From so many bytes of a frame on, a read of their own costs less than to copy them.
constexpr size_t kOwnReadFrom = size_t{64} << 10;
constexpr size_t kFrameHead = 9;
// From so many bytes on, a tensor has a place of its own where its model has room for that.
constexpr size_t kPlacedFrom = size_t{256} << 10;
static_assert(kFrameHead <= kBufferPadding);

Status ShuttingDown() {
  return Status::Unavailable("GRPC server is shutting down and has stopped accepting new requests.");
}

}  // namespace

GrpcConnection::GrpcConnection(std::shared_ptr<Mailbox> mailbox, uint64_t id, std::shared_ptr<const Options> options)
    : Connection(id),
      mailbox_(std::move(mailbox)),
      options_(std::move(options)),
      keepalive_(options_->keepalive, mailbox_->acceptor().Now(), id),
      session_(*this, [&] {
        Http2Session::Options http2;
        http2.max_concurrent_streams = options_->max_concurrent_streams;
        return http2;
      }()) {
  SetKeepaliveTimer();
}

// Its timers must not outlive it.
GrpcConnection::~GrpcConnection() { Close(); }

void GrpcConnection::Receive(const uint8_t* data, size_t size) {
  if (closed_) {
    target_ = Space();
    return;
  }
  ++reads_;
  keepalive_.OnReceived(mailbox_->acceptor().Now());
  session_.Receive(data, size);
  for (const int32_t stream : begun_) {
    if (Call* call = FindOpen(stream)) WatchForStall(stream, *call);
  }
  begun_.clear();
  if (keepalive_timer_ && keepalive_.next() < (*keepalive_timer_)->first) SetKeepaliveTimer();
  if (target_.size != 0 || session_.data_next() >= kOwnReadFrom) target_ = NextTarget();
  mailbox_->MarkReady(*this);
}

Space GrpcConnection::NextTarget() {
  Call* call = FindOpen(session_.data_stream());
  if (call == nullptr || call->paused) return {};
  const size_t next = session_.data_next();
  if (next != 0 && next < kOwnReadFrom) return {};
  Space space = call->reader.OpenSpace(kOwnReadFrom, next);
  // Between two frames of a message: what the second one is comes first.
  if (next == 0) return {nullptr, nullptr, space.data != nullptr && target_.data != nullptr ? kFrameHead : 0};
  // What the next frame is comes with the end of this one.
  if (space.size == next && !space.exact) space.size += kFrameHead;
  return space;
}

// --- headers ---

void GrpcConnection::OnHeader(int32_t stream, std::string_view name, std::string_view value) {
  calls_[stream].AddHeader(name, value, *options_);
}

void GrpcConnection::OnHeadersTooLarge(int32_t stream) {
  calls_.try_emplace(stream);
  End(stream, {Code::kResourceExhausted, "received metadata size exceeds the limit"});
}

Status GrpcConnection::CheckLoad(const Call& call) const {
  if (session_.unsent() > MayLeave(kMaxUnsent) && call.received - last_sent_ > kUnreadAfter) {
    return {Code::kResourceExhausted, "the client does not read its answers: " + std::to_string(session_.unsent()) +
                                          " bytes of this connection are waiting"};
  }
  if (outstanding >= 2 * size_t{options_->max_concurrent_streams}) {
    return Status::Unavailable("too many requests of this connection are still being executed");
  }
  return Status();
}

size_t GrpcConnection::MayLeave(size_t most) const { return mailbox_->MayLeave(options_->max_unread_of_all, 2, most); }

void GrpcConnection::CountUnsent() {
  const size_t now = closed_ ? 0 : session_.unsent();
  mailbox_->untaken += now - std::exchange(counted_, now);  // wraps around where it is less
}

Status GrpcConnection::StartDeadline(int32_t stream, Call& call) {
  if (!call.has_timeout) return Status();
  const auto timeout = ParseGrpcTimeout(call.timeout);
  if (!timeout)
    return Status::Internal("malformed grpc-timeout: expecting up to 8 digits and a unit (H, M, S, m, u, n)");
  if (*timeout == 0) return {Code::kDeadlineExceeded, "Deadline Exceeded"};
  call.deadline = mailbox_->AddTimer(call.received + *timeout, [this, stream, &call] {
    call.deadline.reset();  // it is the timer that is calling
    GiveUp(stream, {Code::kDeadlineExceeded, "Deadline Exceeded"});
  });
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
  Status status = call.CheckHeaders();
  if (status.ok()) status = CheckLoad(call);
  if (status.ok()) status = StartDeadline(stream, call);
  if (!status.ok()) return End(stream, status);
  if (!call.streams()) begun_.push_back(stream);
  if (call.route->kind == GrpcRoute::Kind::kStreamInfer) {
    call.stream = std::make_shared<InferStream>(AsHost(), stream, call, options_->compression_level);
  }
}

// --- messages ---

// As shared as the connection itself.
std::shared_ptr<GrpcHost> GrpcConnection::AsHost() { return {shared_from_this(), this}; }

size_t GrpcConnection::OnData(int32_t stream, const uint8_t* data, size_t size) {
  Call* call = FindOpen(stream);
  if (call == nullptr) return size;
  if (!call->paused) {
    const size_t used = Read(stream, *call, data, size);
    if (!call->paused) return size;
    data += used;
    size -= used;
    call->held.Append(data, size);
    return used;
  }
  call->held.Append(data, size);
  return 0;
}

size_t GrpcConnection::Read(int32_t stream, Call& call, const uint8_t* data, size_t size) {
  size_t used = 0;
  while (used < size && !call.answered) {
    if (call.reader.complete()) {
      End(stream, Status::Internal("a unary call carries exactly one message"));
      break;
    }
    if (call.streams() && Full(stream, call)) {
      call.paused = true;
      held_up_.push_back(stream);
      break;
    }
    const StatusOr<size_t> taken = call.reader.Feed(data + used, size - used, options_->max_message_size);
    if (!taken.ok()) {
      End(stream, taken.status());
      break;
    }
    used += taken.value();
    call.taken += taken.value();
    if (call.reader.left() >= kOwnReadFrom) PlaceInputs(call);
    if (call.streams() && call.reader.complete()) OnMessage(stream, call);
  }
  if (call.streams() && call.awaited() && !call.stall) begun_.push_back(stream);
  return used;
}

void GrpcConnection::PlaceInputs(Call& call) {
  MessageBuffer* const message = call.reader.plain();
  if (message == nullptr || !call.route->infers()) return;
  if (!call.search) call.search = std::make_unique<RawInputSearch>();
  while (const auto found = call.search->Next(*message, kPlacedFrom)) {
    const auto room = mailbox_->acceptor().RoomFor(call.search->model(), call.search->version());
    BufferPtr place = room ? room->Allocate(found->size) : nullptr;
    if (place) message->SetApart(found->offset, found->size, std::move(place));
  }
}

bool GrpcConnection::Full(int32_t stream, const Call& call) const {
  if (call.stream) return call.stream->full() || outstanding >= 2 * size_t{options_->max_concurrent_streams};
  return call.asked || session_.unsent(stream) > kMaxUnsentOfControl;
}

bool GrpcConnection::HasRoom(int32_t stream, const Call& call) const {
  return call.stream ? call.stream->has_room() && !Full(stream, call) : !Full(stream, call);
}

void GrpcConnection::ReadOn() {
  for (const int32_t stream : std::exchange(held_up_, {})) {
    Call* call = FindOpen(stream);
    if (call == nullptr) continue;
    if (!HasRoom(stream, *call)) {
      held_up_.push_back(stream);
      continue;
    }
    call->paused = false;
    HeldBytes held = std::exchange(call->held, HeldBytes());
    size_t used = Read(stream, *call, held.data(), held.size());
    if (call->answered) used = held.size();
    session_.Consume(stream, used);
    held.Drop(used);
    call->held = std::move(held);
    WatchForStall(stream, *call);
    if (call->ended && !call->paused && !call->answered) OnAllRead(stream, *call);
    mailbox_->MarkReady(*this);
  }
}

void GrpcConnection::WatchForStall(int32_t stream, Call& call) {
  if (options_->message_timeout == 0 || call.stall || !call.awaited()) return;
  call.taken_before = call.taken;
  call.stall = mailbox_->AddTimer(mailbox_->acceptor().Now() + options_->message_timeout, [this, stream, &call] {
    call.stall.reset();
    CheckProgress(stream);
  });
}

void GrpcConnection::CheckProgress(int32_t stream) {
  Call* call = FindOpen(stream);
  if (call == nullptr || !call->awaited()) return;
  // Where it is us who take no more, the client is not late.
  const bool free = !call->paused && !session_.withholds();
  if (free && call->taken - call->taken_before < kMinProgress) {
    return GiveUp(stream, {Code::kDeadlineExceeded, "the request message took too long"});
  }
  WatchForStall(stream, *call);
}

void GrpcConnection::OnMessage(int32_t stream, Call& call) {
  RemoveTimer(call.stall);
  call.search.reset();
  StatusOr<ReceivedMessage> message = call.reader.Take(call.encoding, options_->max_message_size);
  if (!message.ok()) return End(stream, message.status());
  switch (call.route->kind) {
    case GrpcRoute::Kind::kInfer:
      call.infer = std::allocate_shared<UnaryInfer>(RecyclingAllocator<UnaryInfer>(), AsHost(), stream,
                                                    call.answer_encoding, options_->compression_level);
      // A call that came in one read was received when its headers were.
      return call.infer->Submit(call, message.value(),
                                call.read == reads_ ? call.received : mailbox_->acceptor().Now());
    case GrpcRoute::Kind::kStreamInfer:
      return call.stream->Receive(message.value(), mailbox_->acceptor().Now());
    default:
      call.asked = true;
      events_.push_back({ControlEvent::Kind::kMessage, stream, call.path, std::move(message->bytes)});
  }
}

void GrpcConnection::OnEnd(int32_t stream) {
  const auto found = calls_.find(stream);
  if (found == calls_.end()) return;
  Call& call = found->second;
  call.ended = true;
  if (!begun_.empty() && begun_.back() == stream) begun_.pop_back();  // most calls come in one read
  if (!call.answered && !call.paused) OnAllRead(stream, call);
}

void GrpcConnection::OnAllRead(int32_t stream, Call& call) {
  const bool whole = call.streams() ? call.reader.empty() : call.reader.complete();
  if (!whole) return End(stream, Status::Internal("the call ended before its message was complete"));
  if (!call.streams()) return OnMessage(stream, call);
  if (call.stream) return call.stream->ReceiveEnd();
  events_.push_back({ControlEvent::Kind::kEnd, stream, call.path, Slice()});
}

// --- the life of the connection ---

size_t GrpcConnection::in_flight() const {
  return static_cast<size_t>(
      std::count_if(calls_.begin(), calls_.end(), [](const auto& item) { return !item.second.answered; }));
}

void GrpcConnection::OnPing() {
  if (keepalive_.OnPing(mailbox_->acceptor().Now(), !calls_.empty())) return;
  session_.Abandon(kEnhanceYourCalm, "too_many_pings");
}

void GrpcConnection::SetKeepaliveTimer() {
  RemoveTimer(keepalive_timer_);
  if (const TimeNs next = keepalive_.next(); next != 0) {
    keepalive_timer_ = mailbox_->AddTimer(next, [this] {
      keepalive_timer_.reset();
      KeepAlive();
    });
  }
}

void GrpcConnection::KeepAlive() {
  for (;;) {
    switch (keepalive_.Due(mailbox_->acceptor().Now(), !calls_.empty())) {
      case Keepalive::Action::kPing:
        session_.Ping();
        break;
      case Keepalive::Action::kGoAway:
        session_.GoAway("max_age");
        draining_ = true;
        break;
      case Keepalive::Action::kGiveUp:
        given_up_ = true;
        mailbox_->MarkReady(*this);
        return;
      case Keepalive::Action::kNone:
        mailbox_->MarkReady(*this);
        return SetKeepaliveTimer();
    }
  }
}

void GrpcConnection::Drain() {
  if (closed_) return;
  if (!std::exchange(draining_, true)) session_.GoAway("");
  for (auto& [stream, call] : calls_) {
    if (call.stream) {
      call.stream->Drain();
    } else if (call.streams()) {
      End(stream, ShuttingDown());
    }
  }
  mailbox_->MarkReady(*this);
}

void GrpcConnection::Close() {
  if (std::exchange(closed_, true)) return;
  CountUnsent();
  bool cancelled = false;
  for (auto& [stream, call] : calls_) {
    cancelled = Cancel(call) || cancelled;
    RemoveTimer(call.deadline);
    RemoveTimer(call.stall);
  }
  RemoveTimer(keepalive_timer_);
  calls_.clear();
  events_.clear();
  if (cancelled) mailbox_->acceptor().NoteCancellation();
}

void GrpcConnection::Resume() {
  paused_ = false;
  mailbox_->MarkReady(*this);
}

bool GrpcConnection::TakeOutput(Output& output) {
  if (closed_) return false;
  if (given_up_) return true;
  if (paused_) return CountUnsent(), false;
  const bool more = session_.Send(output, kWriteLimit);
  if (!output.empty()) last_sent_ = mailbox_->acceptor().Now();
  if (session_.TakeSentData()) keepalive_.OnSentData();
  ReadOn();
  CountUnsent();
  if (more) return mailbox_->MarkReady(*this), false;
  if (session_.finished()) return true;
  // Calls stay in the table until their last byte is handed out.
  return draining_ && calls_.empty();
}

}  // namespace pyinfer
