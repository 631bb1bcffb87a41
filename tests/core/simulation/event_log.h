// SPDX-License-Identifier: Apache-2.0
// event_log.h - what happens in a schedule, a line each, where somebody reads it.
#pragma once

#include <ostream>

#include "base/clock.h"

namespace pyinfer::simulation {

class EventLog {
 public:
  // Both must outlive this; without `out` nothing is written.
  EventLog(std::ostream* out, const Clock& clock) : out_(out), clock_(clock) {}

  // Null where nobody reads.
  std::ostream* out() const { return out_; }

  template <typename... Parts>
  void operator()(const Parts&... parts) const {
    if (out_ == nullptr) return;
    *out_ << clock_.Now() << ": ";
    (*out_ << ... << parts) << std::endl;
  }

 private:
  std::ostream* const out_;
  const Clock& clock_;
};

}  // namespace pyinfer::simulation
