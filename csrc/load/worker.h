// SPDX-License-Identifier: Apache-2.0
// worker.h - one thread's share of a load: its connections and what it has met.
//
// A worker turns: it waits until a socket is ready or a request is due, reads what came, sends what is due. In a closed
// loop a request is due when an answer has come; in an open one when the schedule says so, whether or not there is a
// connection that can carry it. The worker reads time from a Clock; only how long it waits for sockets is real.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "load/chat_set.h"
#include "load/load_options.h"
#include "load/load_window.h"
#include "load/pacer.h"
#include "load/ramp.h"
#include "load/sequence_set.h"
#include "load/session.h"

namespace pyinfer {

class LoadConnection;

class LoadWorker {
 public:
  // `options`, `budget` (requests that may still be sent, or chats that may still begin, by all workers) and `clock`
  // outlive this. The worker of number `index` of options.threads; `start` is when the schedule starts. Throws
  // std::system_error.
  LoadWorker(const LoadOptions& options, uint32_t index, TimeNs start, std::atomic<int64_t>& budget,
             const Clock& clock);
  ~LoadWorker();
  LoadWorker(const LoadWorker&) = delete;
  LoadWorker& operator=(const LoadWorker&) = delete;

  // One turn, which waits `most` nanoseconds at most. One thread, always the same.
  void Turn(TimeNs most);
  // Turns until Stop.
  void Run();

  // --- any thread ---
  // No request is sent any more, but those that end sequences; what is in flight is waited for by who wants to.
  void Pause();
  void Stop();
  // Adds what was met since the last time to `into`, at `now`, and starts anew.
  void TakeInto(LoadWindow& into, TimeNs now);
  uint64_t answered() const { return answered_.load(std::memory_order_relaxed); }
  // Of answers that are streams: also those to requests that are not over.
  uint64_t responses() const { return responses_.load(std::memory_order_relaxed); }
  // Connections that did not come about.
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }
  uint64_t in_flight() const { return in_flight_.load(std::memory_order_relaxed); }
  // After Pause: nothing is in flight, and no sequence is to be ended.
  bool settled() const { return settled_.load(std::memory_order_relaxed); }
  // Neither in flight nor to be sent.
  bool exhausted() const { return exhausted_.load(std::memory_order_relaxed); }

 private:
  friend class LoadConnection;

  // The connection has read something or is to send something: it is served before the turn ends.
  void Touch(LoadConnection& connection);
  void Connect();
  // Ends its wait. Any thread.
  void Wake() const;
  void WaitForRetry(TimeNs at) { first_retry_ = first_retry_ == 0 ? at : std::min(first_retry_, at); }
  bool TakeFromBudget();
  void SendDue();
  void SendClosed();
  void SendRamp();
  void SendChats();
  // The next body, or the next step of `sequence`.
  void SendNext(LoadConnection& connection, uint32_t sequence, TimeNs intended);
  void SendStep(LoadConnection& connection, uint32_t sequence, const SequenceStep& step, TimeNs intended);
  // The connection that is to carry the next request of an open loop, and of which sequence that is; nullptr where
  // none can.
  LoadConnection* NextOpen(uint32_t& sequence);
  // Ends what is live and waits for nothing.
  void EndSequences();
  // A request of the sequence `id` is over. By now another one may have begun in its place.
  void EndStep(uint32_t sequence, uint64_t id, bool ok);
  TimeNs UntilNext(TimeNs most) const;
  // The next body, and its number.
  size_t NextBody();

  const LoadOptions& options_;
  std::atomic<int64_t>& budget_;
  const Clock& clock_;
  std::optional<Pacer> pacer_;
  std::optional<Ramp> ramp_;
  std::optional<SequenceSet> sequences_;
  std::optional<ChatSet> chats_;           // at the place of each connection
  std::vector<uint32_t> steps_in_flight_;  // by sequence
  uint32_t next_sequence_ = 0;             // of an open loop
  int epoll_ = -1;
  int wake_ = -1;
  std::vector<std::unique_ptr<LoadConnection>> connections_;
  std::vector<char> read_buffer_;
  std::vector<LoadConnection*> touched_;
  size_t unconnected_ = 0;
  size_t next_connection_ = 0;  // of an open loop
  size_t next_body_;
  TimeNs first_retry_ = 1;   // the earliest attempt to connect that is waited for; 0: none
  bool is_out_ = false;      // the budget is used up
  bool is_blocked_ = false;  // an open loop has no connection for what is due
  TimeNs looked_at_ = 0;     // when it was looked at which turns of chats are due
  std::atomic<bool> paused_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> exhausted_{false};
  std::atomic<bool> settled_{false};
  std::atomic<uint64_t> answered_{0};
  std::atomic<uint64_t> responses_{0};
  std::atomic<uint64_t> in_flight_{0};
  std::atomic<uint64_t> refused_{0};
  std::mutex mutex_;  // held but while the worker waits
  LoadWindow window_;
};

}  // namespace pyinfer
