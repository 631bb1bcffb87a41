// SPDX-License-Identifier: Apache-2.0
#include "load/worker.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "load/connection.h"

namespace pyinfer {
namespace {

constexpr size_t kReadBuffer = 256u << 10;
constexpr TimeNs kFineWait = 5'000'000;
// Without an end: no timer is set up and taken down for each request.
constexpr TimeNs kForever = TimeNs{1} << 60;
constexpr TimeNs kLongestWaitMs = 3'600'000;
constexpr uint64_t kMostOverdue = 10'000'000;
// So many requests are sent between two looks at the sockets.
constexpr int kMostAtOnce = 256;

// What all before number `index` have together.
uint32_t ShareBefore(uint32_t total, uint32_t index, uint32_t of) {
  return total / of * index + std::min(index, total % of);
}

// The share of number `index` of `total` things over `of` workers.
uint32_t ShareOf(uint32_t total, uint32_t index, uint32_t of) { return total / of + (index < total % of ? 1 : 0); }

}  // namespace

LoadWorker::LoadWorker(const LoadOptions& options, uint32_t index, TimeNs start, std::atomic<int64_t>& budget,
                       const Clock& clock)
    : options_(options), budget_(budget), clock_(clock), read_buffer_(kReadBuffer), next_body_(index) {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  wake_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  epoll_event event{};
  event.events = EPOLLIN;
  if (epoll_ < 0 || wake_ < 0 || epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event) != 0) {
    const int error = errno;
    if (epoll_ >= 0) close(epoll_);
    if (wake_ >= 0) close(wake_);
    throw std::system_error(error, std::generic_category(), "epoll");
  }
  const bool closed_loop = options.concurrency != 0;
  const uint32_t own = ShareOf(options.connections, index, options.threads);
  const uint32_t in_flight = ShareOf(options.concurrency, index, options.threads);
  uint32_t first_sequence = 0;
  for (uint32_t i = 0; i < own; ++i) {
    uint32_t slots = closed_loop ? ShareOf(in_flight, i, own) : options.streams;
    if (!closed_loop && options.protocol == LoadProtocol::kHttp) slots = 1;
    if (slots == 0) continue;
    connections_.push_back(std::make_unique<LoadConnection>(*this, options, slots, first_sequence));
    first_sequence += slots;
  }
  if (const uint32_t live = options.sequences.live; live != 0) {
    sequences_.emplace(options.sequences, ShareBefore(live, index, options.threads),
                       ShareOf(live, index, options.threads));
    steps_in_flight_.resize(sequences_->size());
  }
  unconnected_ = connections_.size();
  if (!closed_loop) pacer_.emplace(options.schedule, start, index, options.threads);
  if (options.ramp.start != 0) ramp_.emplace(options.ramp);
  if (!options.chats.empty()) chats_.emplace(options.chats, budget, connections_.size());
  window_.started = start;
}

LoadWorker::~LoadWorker() {
  connections_.clear();
  close(wake_);
  close(epoll_);
}

void LoadWorker::Run() {
  // Timers of threads are late by 50 us otherwise.
  prctl(PR_SET_TIMERSLACK, 1000UL);
  while (!stopping_.load(std::memory_order_relaxed)) Turn(kForever);
}

void LoadWorker::Pause() {
  paused_.store(true, std::memory_order_relaxed);
  Wake();
}

void LoadWorker::Stop() {
  stopping_.store(true, std::memory_order_relaxed);
  Wake();
}

void LoadWorker::Wake() const {
  const uint64_t one = 1;
  while (write(wake_, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

TimeNs LoadWorker::UntilNext(TimeNs most) const {
  if (first_retry_ == 0 && !chats_ && !pacer_) return most;
  const TimeNs now = clock_.Now();
  if (first_retry_ != 0) most = std::min(most, first_retry_ - now);
  // What was due when it was looked at, and could not be sent, is sent when a socket is ready. What has become due
  // since then is not waited for.
  if (chats_) most = std::min(most, chats_->NextAfter(looked_at_, now + most) - now);
  const bool sends = pacer_ && !pacer_->done() && !is_out_ && !paused_.load(std::memory_order_relaxed);
  if (sends && !is_blocked_) most = std::min(most, pacer_->next() - now);
  return std::max(most, TimeNs{0});
}

void LoadWorker::Turn(TimeNs most) {
  std::array<epoll_event, 64> events;
  TimeNs wait = UntilNext(most);
  if (wait > 0 && wait < kFineWait) {
    // epoll_wait knows milliseconds only.
    pollfd watched{epoll_, POLLIN, 0};
    const timespec timeout{0, static_cast<long>(wait)};
    ppoll(&watched, 1, &timeout, nullptr);
    wait = 0;
  }
  const int most_events = static_cast<int>(events.size());
  const int wait_ms = wait >= kForever / 2 ? -1 : static_cast<int>(std::min(wait / 1'000'000, kLongestWaitMs));
  const int ready = epoll_wait(epoll_, events.data(), most_events, wait_ms);
  std::lock_guard<std::mutex> lock(mutex_);
  for (int i = 0; i < ready; ++i) {
    const epoll_event& event = events[static_cast<size_t>(i)];
    if (event.data.ptr != nullptr) {
      static_cast<LoadConnection*>(event.data.ptr)->OnEvents(event.events);
    } else {
      uint64_t ignored = 0;
      [[maybe_unused]] const ssize_t size = read(wake_, &ignored, sizeof ignored);
    }
  }
  first_retry_ = 0;
  const bool paused = paused_.load(std::memory_order_relaxed);
  if (!paused) {
    if (unconnected_ != 0 && !is_out_) Connect();
    SendDue();
  } else if (sequences_) {
    EndSequences();
  }
  for (LoadConnection* connection : touched_) {
    connection->is_touched = false;
    connection->Flush();
  }
  touched_.clear();
  const bool nothing_to_send =
      is_out_ || (pacer_ && pacer_->done()) || (ramp_ && ramp_->done()) || (chats_ && chats_->done());
  if (paused) settled_.store(in_flight() == 0 && !(sequences_ && sequences_->any_open()), std::memory_order_relaxed);
  exhausted_.store(nothing_to_send && in_flight() == 0, std::memory_order_relaxed);
}

void LoadWorker::Touch(LoadConnection& connection) {
  if (!std::exchange(connection.is_touched, true)) touched_.push_back(&connection);
}

void LoadWorker::Connect() {
  const TimeNs now = clock_.Now();
  for (const auto& connection : connections_) {
    const TimeNs retry = connection->Connect(now);
    if (retry != 0) WaitForRetry(retry);
  }
}

bool LoadWorker::TakeFromBudget() {
  if (options_.max_requests == 0) return true;
  if (!is_out_) is_out_ = budget_.fetch_sub(1, std::memory_order_relaxed) <= 0;
  return !is_out_;
}

size_t LoadWorker::NextBody() {
  const size_t body = next_body_ % options_.bodies.size();
  next_body_ += options_.threads;
  return body;
}

void LoadWorker::SendDue() {
  if (ramp_) return SendRamp();
  if (chats_) return SendChats();
  if (!pacer_) return SendClosed();
  is_blocked_ = false;
  for (int i = 0; i < kMostAtOnce && !pacer_->done() && pacer_->next() <= clock_.Now(); ++i) {
    uint32_t sequence = 0;
    LoadConnection* const connection = NextOpen(sequence);
    is_blocked_ = connection == nullptr;
    if (is_blocked_ || !TakeFromBudget()) break;
    SendNext(*connection, sequence, pacer_->next());
    pacer_->Pop();
  }
}

void LoadWorker::SendClosed() {
  // A connection has room for another request when it was connected or has brought an answer.
  for (LoadConnection* connection : touched_) {
    while (connection->CanSubmit() && TakeFromBudget()) {
      SendNext(*connection, sequences_ ? connection->NextSequence() : 0, clock_.Now());
    }
  }
}

void LoadWorker::SendRamp() {
  for (size_t i = 0; i < connections_.size() && ramp_->has_next(); ++i) {
    LoadConnection& connection = *connections_[i];
    while (ramp_->has_next() && connection.CanSubmit() && TakeFromBudget()) {
      SendNext(connection, 0, clock_.Now());
      ramp_->Sent();
    }
  }
}

void LoadWorker::SendChats() {
  const TimeNs now = looked_at_ = clock_.Now();
  for (size_t place = 0; place < connections_.size(); ++place) {
    LoadConnection& connection = *connections_[place];
    if (!connection.CanSubmit()) continue;
    const std::optional<TimeNs> due = chats_->DueAt(place, now);
    if (due && *due <= now) connection.SubmitTurn(*chats_, place, *due);
  }
}

void LoadWorker::SendNext(LoadConnection& connection, uint32_t sequence, TimeNs intended) {
  if (!sequences_) return connection.Submit(NextBody(), intended);
  SendStep(connection, sequence, sequences_->Next(sequence), intended);
}

void LoadWorker::SendStep(LoadConnection& connection, uint32_t sequence, const SequenceStep& step, TimeNs intended) {
  ++steps_in_flight_[sequence];
  connection.SubmitStep(sequence, step, intended);
}

LoadConnection* LoadWorker::NextOpen(uint32_t& sequence) {
  if (!sequences_) {
    for (size_t tried = 0; tried < connections_.size(); ++tried) {
      LoadConnection* const connection = connections_[next_connection_].get();
      next_connection_ = (next_connection_ + 1) % connections_.size();
      if (connection->CanSubmit()) return connection;
    }
    return nullptr;
  }
  // A sequence stays on its connection, so that its requests come in order.
  for (uint32_t tried = 0; tried < sequences_->size(); ++tried) {
    sequence = next_sequence_;
    next_sequence_ = (next_sequence_ + 1) % sequences_->size();
    LoadConnection* const connection = connections_[sequence % connections_.size()].get();
    const bool waits = options_.sequences.serial && steps_in_flight_[sequence] != 0;
    if (!waits && connection->CanSubmit()) return connection;
  }
  return nullptr;
}

void LoadWorker::EndSequences() {
  uint32_t sequence = 0;
  const auto end = [&](LoadConnection& connection) {
    if (!sequences_->is_open(sequence) || steps_in_flight_[sequence] != 0) return;
    if (!connection.is_connected()) return sequences_->Abandon(sequence);
    if (!connection.CanSubmit()) return;
    SendStep(connection, sequence, sequences_->End(sequence), clock_.Now());
  };
  if (pacer_) {
    for (; sequence < sequences_->size(); ++sequence) end(*connections_[sequence % connections_.size()]);
    return;
  }
  for (const auto& connection : connections_) {
    for (uint32_t i = 0; i < connection->slots(); ++i, ++sequence) end(*connection);
  }
}

void LoadWorker::EndStep(uint32_t sequence, uint64_t id, bool ok) {
  --steps_in_flight_[sequence];
  if (!ok && sequences_->id(sequence) == id) sequences_->Abandon(sequence);
}

void LoadWorker::TakeInto(LoadWindow& into, TimeNs now) {
  std::lock_guard<std::mutex> lock(mutex_);
  into.Merge(window_);
  TimeNs oldest = now;
  for (const auto& connection : connections_) {
    into.unanswered += connection->in_flight();
    oldest = connection->OldestIntended(oldest);
  }
  if (pacer_ && !pacer_->done() && !is_out_) {
    into.overdue += pacer_->Due(now, kMostOverdue);
    oldest = std::min(oldest, pacer_->next());
  }
  into.oldest_ns = std::max(into.oldest_ns, now - oldest);
  into.started = into.started == 0 ? window_.started : std::min(into.started, window_.started);
  into.ended = std::max(into.ended, now);
  window_ = LoadWindow();
  window_.started = now;
}

}  // namespace pyinfer
