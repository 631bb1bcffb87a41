// SPDX-License-Identifier: Apache-2.0
#include "base/clock.h"

namespace pyinfer {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

TimeNs SystemClock::Now() const {
  return std::chrono::duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

void SystemClock::Wait(std::condition_variable& condition, std::unique_lock<std::mutex>& lock, TimeNs until) const {
  if (until == 0) {
    condition.wait(lock);
  } else {
    condition.wait_until(lock, steady_clock::time_point(nanoseconds(until)));
  }
}

void ManualClock::Wait(std::condition_variable& condition, std::unique_lock<std::mutex>& lock, TimeNs) const {
  condition.wait(lock);
}

int64_t WallClockMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace pyinfer
