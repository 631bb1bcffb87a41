// SPDX-License-Identifier: Apache-2.0
#include "load/connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "load/address.h"
#include "load/worker.h"
#include "wire/grpc_prefix.h"

namespace pyinfer {
namespace {

constexpr size_t kSendLimit = 256u << 10;
constexpr TimeNs kFirstBackoff = 10'000'000;
constexpr TimeNs kLongestBackoff = 1'000'000'000;

}  // namespace

LoadConnection::LoadConnection(LoadWorker& worker, const LoadOptions& options, uint32_t slots, uint32_t first_sequence)
    : worker_(worker), options_(options), first_sequence_(first_sequence), requests_(slots) {
  if (options.sequences.live != 0 || !options.chats.empty()) steps_.resize(slots);
  for (uint32_t slot = slots; slot-- > 0;) free_.push_back(slot);
  if (options.record && options.streamed) response_times_.resize(slots);
}

LoadConnection::~LoadConnection() {
  if (socket_ >= 0) close(socket_);
}

TimeNs LoadConnection::Connect(TimeNs now) {
  if (socket_ >= 0) return 0;
  if (now < retry_at_) return retry_at_;
  --worker_.unconnected_;
  sockaddr_storage to{};
  const socklen_t size = ToSockaddr(options_.address, options_.port, to);
  socket_ = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (socket_ < 0) {
    Lose("can not open a socket: " + TextOfError(errno), false);
    return retry_at_;
  }
  const int on = 1;
  setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT;
  event.data.ptr = this;
  const bool begun = connect(socket_, reinterpret_cast<sockaddr*>(&to), size) == 0 || errno == EINPROGRESS;
  if (!begun || epoll_ctl(worker_.epoll_, EPOLL_CTL_ADD, socket_, &event) != 0) {
    Lose("can not connect to the server: " + TextOfError(errno), false);
    return retry_at_;
  }
  connecting_ = watches_writable_ = true;
  return 0;
}

std::unique_ptr<ClientSession> LoadConnection::MakeSession() {
  std::unique_ptr<ClientSession> session = MakePlainSession();
  return options_.tls == nullptr ? std::move(session) : options_.tls->Wrap(std::move(session));
}

std::unique_ptr<ClientSession> LoadConnection::MakePlainSession() {
  const auto slots = static_cast<uint32_t>(requests_.size());
  const bool keeps = !options_.expected.empty() || !options_.chats.empty();
  switch (options_.protocol) {
    case LoadProtocol::kHttp:
      return MakeHttpSession(*this, options_.events, keeps);
    case LoadProtocol::kGrpcStream:
      return MakeGrpcStreamSession(*this, options_.headers, slots);
    case LoadProtocol::kGrpc:
      break;
  }
  return MakeGrpcSession(*this, options_.headers, slots, keeps);
}

void LoadConnection::OnEvents(uint32_t events) {
  if (socket_ < 0) return;
  if (connecting_) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(socket_, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return Lose("can not connect to the server: " + TextOfError(error), false);
    connecting_ = false;
    ++worker_.window_.connections_opened;
    session_ = MakeSession();
    answered_since_connect_ = false;
    return worker_.Touch(*this);
  }
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) Read();
  worker_.Touch(*this);
}

void LoadConnection::Read() {
  std::vector<char>& buffer = worker_.read_buffer_;
  for (;;) {
    const ssize_t size = recv(socket_, buffer.data(), buffer.size(), 0);
    now_ = worker_.clock_.Now();
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size <= 0) {
      const std::string how =
          size == 0 ? "the server has closed the connection" : "the connection is lost: " + TextOfError(errno);
      return Lose(how, size == 0);
    }
    worker_.window_.bytes_received += static_cast<uint64_t>(size);
    if (!session_->Receive(buffer.data(), static_cast<size_t>(size))) {
      return LoseBroken();
    }
    if (session_->finished()) return Lose("the server has closed the connection", true);
    if (static_cast<size_t>(size) < buffer.size()) return;
  }
}

void LoadConnection::Submit(size_t body, TimeNs intended) {
  session_->Submit(Begin(body, intended), options_.bodies[body]);
}

void LoadConnection::SubmitStep(uint32_t sequence, const SequenceStep& step, TimeNs intended) {
  const uint32_t slot = Begin(step.body, intended);
  requests_[slot].sequence = sequence;
  requests_[slot].sequence_id = step.id;
  const auto write = options_.protocol == LoadProtocol::kHttp ? WriteHttpStep : WriteGrpcStep;
  write(steps_[slot], options_.bodies[step.body], step);
  session_->Submit(slot, steps_[slot]);
}

void LoadConnection::SubmitTurn(ChatSet& chats, size_t place, TimeNs intended) {
  std::string& step = steps_[free_.back()];
  const uint32_t slot = Begin(chats.Next(place, options_.bodies, step).body, intended);
  requests_[slot].chats = &chats;
  requests_[slot].place = place;
  session_->Submit(slot, step);
}

uint32_t LoadConnection::Begin(size_t body, TimeNs intended) {
  const uint32_t slot = free_.back();
  free_.pop_back();
  Request& request = requests_[slot];
  request = Request();
  request.intended = intended;
  request.submitted = worker_.clock_.Now();
  request.body = body;
  request.open = true;
  worker_.window_.send_delay.Record(request.submitted - intended);
  unwritten_.push_back(slot);
  worker_.in_flight_.fetch_add(1, std::memory_order_relaxed);
  worker_.Touch(*this);
  return slot;
}

void LoadConnection::Flush() {
  if (session_ == nullptr) return;
  for (;;) {
    if (out_sent_ == out_.size()) {
      out_.clear();
      out_sent_ = 0;
      if (!session_->Send(out_, kSendLimit)) return LoseBroken();
      if (out_.empty()) break;
    }
    const ssize_t size = send(socket_, out_.data() + out_sent_, out_.size() - out_sent_, MSG_NOSIGNAL);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return Watch(true);
    // What the server has sent before it closed says more; it is read first.
    if (size < 0) return Watch(false);
    out_sent_ += static_cast<size_t>(size);
    worker_.window_.bytes_sent += static_cast<uint64_t>(size);
  }
  if (session_->finished()) return Lose("the server has closed the connection", true);
  Watch(false);
  if (unwritten_.empty()) return;
  // Flow control may hold some back; then this is a little early.
  const TimeNs now = worker_.clock_.Now();
  for (const uint32_t slot : unwritten_) requests_[slot].written = now;
  unwritten_.clear();
}

void LoadConnection::Watch(bool writable) {
  if (writable == watches_writable_ || socket_ < 0) return;
  watches_writable_ = writable;
  epoll_event event{};
  event.events = EPOLLIN | (writable ? static_cast<uint32_t>(EPOLLOUT) : 0);
  event.data.ptr = this;
  epoll_ctl(worker_.epoll_, EPOLL_CTL_MOD, socket_, &event);
}

void LoadConnection::OnAnswerBegins(uint32_t slot) { requests_[slot].begun = now_; }

void LoadConnection::OnResponse(uint32_t slot) {
  Request& request = requests_[slot];
  ResponseTimes& times = worker_.window_.streamed;
  if (request.responses++ == 0) {
    request.first = now_;
    times.first.Record(now_ - request.intended);
  } else {
    times.gap.Record(now_ - request.last);
  }
  request.last = now_;
  if (worker_.ramp_ && request.responses == worker_.ramp_->period()) worker_.ramp_->EndPeriod();
  ++times.responses;
  worker_.responses_.fetch_add(1, std::memory_order_relaxed);
  ++times.tokens;
  if (!response_times_.empty()) response_times_[slot].push_back(now_);
}

std::string_view LoadConnection::ErrorOf(const Request& request, const Answer& answer) {
  if (!answer.error.empty()) return answer.error;
  if (request.chats != nullptr && answer.message.empty()) return "the answer has no message for the session to go on";
  if (options_.expected.empty()) return {};
  const ExpectedOutputs& expected = options_.expected[request.body];
  if (options_.protocol == LoadProtocol::kHttp) {
    difference_ = CompareHttp(expected, answer.body, answer.header_size);
  } else {
    // A unary message has its prefix before it.
    const size_t prefix = options_.protocol == LoadProtocol::kGrpc ? std::min(kGrpcPrefixSize, answer.body.size()) : 0;
    difference_ = CompareGrpc(expected, answer.body.substr(prefix));
  }
  return difference_;
}

void LoadConnection::OnAnswer(uint32_t slot, const Answer& answer) {
  Request& request = requests_[slot];
  if (!std::exchange(request.open, false)) return;
  free_.push_back(slot);
  LoadWindow& window = worker_.window_;
  const std::string_view error = ErrorOf(request, answer);
  const bool ok = error.empty();
  if (ok) {
    answered_since_connect_ = true;
    window.latency.Record(now_ - request.intended);
    if (request.written != 0) window.send_ns += request.written - request.submitted;
    if (request.begun != 0) window.receive_ns += now_ - request.begun;
  } else {
    window.AddError(error);
  }
  if (request.sequence != kNoSequence) worker_.EndStep(request.sequence, request.sequence_id, ok);
  if (request.chats != nullptr) request.chats->Answered(request.place, ok ? answer.message : std::string_view(), now_);
  if (worker_.ramp_ && request.responses < worker_.ramp_->period()) worker_.ramp_->EndPeriod();
  if (request.responses != 0 || answer.tokens != 0) CountTokens(request, answer.tokens, ok);
  if (options_.record) Record(slot, ok);
  worker_.in_flight_.fetch_sub(1, std::memory_order_relaxed);
  worker_.answered_.fetch_add(1, std::memory_order_relaxed);
}

void LoadConnection::CountTokens(const Request& request, uint64_t told, bool ok) {
  ResponseTimes& times = worker_.window_.streamed;
  if (told != 0) times.tokens += static_cast<int64_t>(told) - static_cast<int64_t>(request.responses);
  const uint64_t tokens = told != 0 ? told : request.responses;
  if (ok && tokens > 1 && request.responses > 1) {
    times.token.Record((request.last - request.first) / static_cast<TimeNs>(tokens - 1));
  }
}

void LoadConnection::Record(uint32_t slot, bool ok) {
  const Request& request = requests_[slot];
  LoadWindow& window = worker_.window_;
  window.records.push_back({request.intended, request.submitted, now_, static_cast<int64_t>(request.body), ok ? 0 : 1});
  if (request.sequence != kNoSequence) window.sequence_records.push_back(static_cast<int64_t>(request.sequence_id));
  if (response_times_.empty()) return;
  std::vector<TimeNs>& times = response_times_[slot];
  window.response_records.push_back(static_cast<int64_t>(times.size()));
  window.response_records.insert(window.response_records.end(), times.begin(), times.end());
  times.clear();
}

void LoadConnection::LoseBroken() {
  const std::string why(session_->failure());
  Lose(why.empty() ? "the server has broken the protocol" : why, false);
}

void LoadConnection::Lose(std::string_view reason, bool by_server) {
  now_ = worker_.clock_.Now();
  // One that came about and that the server closes while nothing is under way is no fault: it has waited long enough.
  const bool came_about =
      session_ != nullptr && (answered_since_connect_ || in_flight() != 0 || (by_server && session_->Ready()));
  if (session_ != nullptr) session_->Fail(reason, by_server);
  if (!came_about) {
    worker_.window_.AddError(reason);
    worker_.refused_.fetch_add(1, std::memory_order_relaxed);
  }
  if (socket_ >= 0) close(socket_);
  socket_ = -1;
  ++worker_.unconnected_;
  session_.reset();
  connecting_ = watches_writable_ = false;
  out_.clear();
  out_sent_ = 0;
  unwritten_.clear();
  backoff_ = answered_since_connect_ ? 0 : std::clamp(backoff_ * 2, kFirstBackoff, kLongestBackoff);
  answered_since_connect_ = false;
  retry_at_ = now_ + backoff_;
  worker_.WaitForRetry(retry_at_);
}

TimeNs LoadConnection::OldestIntended(TimeNs otherwise) const {
  for (const Request& request : requests_) {
    if (request.open) otherwise = std::min(otherwise, request.intended);
  }
  return otherwise;
}

}  // namespace pyinfer
