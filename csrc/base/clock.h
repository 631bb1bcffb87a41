// SPDX-License-Identifier: Apache-2.0
// clock.h - where time comes from. No decision about a request reads a clock of its own: time is an argument or a
// Clock. (Only the HTTP/2 session's limit on resets, which is about connections, looks at the system's clock.)
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace pyinfer {

// Nanoseconds of a monotonic clock. 0 means "not yet" in timelines and "never" in deadlines.
using TimeNs = int64_t;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimeNs Now() const = 0;

  // Waits on `condition` until it is notified or `until` is reached (0: no limit); may wake early.
  virtual void Wait(std::condition_variable& condition, std::unique_lock<std::mutex>& lock, TimeNs until) const = 0;
};

class SystemClock final : public Clock {
 public:
  TimeNs Now() const override;
  void Wait(std::condition_variable& condition, std::unique_lock<std::mutex>& lock, TimeNs until) const override;
};

// Moves only when told to. A waiter wakes when it is notified, not when the clock is advanced: tests poll.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(TimeNs now) : now_(now) {}
  TimeNs Now() const override { return now_.load(std::memory_order_acquire); }
  void Advance(TimeNs by) { now_.fetch_add(by, std::memory_order_acq_rel); }
  void Wait(std::condition_variable& condition, std::unique_lock<std::mutex>& lock, TimeNs until) const override;

 private:
  std::atomic<TimeNs> now_;
};

// Milliseconds since the epoch, for statistics shown to people; never used for a decision.
int64_t WallClockMs();

}  // namespace pyinfer
