// SPDX-License-Identifier: Apache-2.0
// ramp.h - a concurrency that grows while a load runs: how many requests may have been sent by now. Pure.
#pragma once

#include <algorithm>
#include <cstdint>

namespace pyinfer {

struct RampPlan {
  uint32_t start = 0;  // requests that are sent at once; 0: there is no ramp
  uint32_t step = 1;   // requests that are added each time
  uint32_t end = 0;    // requests in all, `start` or more; each is sent once
  // Requests are added when each of those that were added last has had so many responses, or is over.
  uint32_t period = 1;
};

// Who sends tells it of each request once that it is sent, and once that its period is over.
class Ramp {
 public:
  explicit Ramp(const RampPlan& plan) : plan_(plan), allowed_(plan.start), waits_for_(plan.start) {}

  // A request is to be sent now.
  bool has_next() const { return sent_ < allowed_; }
  // Requires: has_next().
  void Sent() { ++sent_; }
  // One of those that were added last has had its responses, or is over.
  void EndPeriod() {
    if (--waits_for_ != 0) return;
    waits_for_ = std::min(plan_.step, plan_.end - allowed_);
    allowed_ += waits_for_;
  }
  uint32_t period() const { return plan_.period; }
  // All are sent.
  bool done() const { return sent_ == plan_.end; }

 private:
  const RampPlan plan_;
  uint32_t allowed_;
  uint32_t waits_for_;
  uint32_t sent_ = 0;
};

}  // namespace pyinfer
