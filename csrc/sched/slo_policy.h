// SPDX-License-Identifier: Apache-2.0
// slo_policy.h - which requests go now, which wait and which are given up, where answers are worth something only
// within a time.
//
// Pure functions: no clock, no lock, no state. Requests come with deadlines, the earliest first. What is known of the
// model is how long executions take (ServiceTimes), whatever the shape of that.
//   1. Of the batches that can be made of the first requests, the one with the most rows a second is best, if its time
//      leaves those a chance that come while it runs: see ExecutionBudget.
//   2. It goes at once if the first request's deadline allows it. If not, a smaller one goes, or the first ones are
//   given
//      up: whichever lets more of those that wait be answered in time. Under overload time has a price as well.
//   3. Waiting pays where the next request is due so soon that a batch with it has more rows a second, its own wait
//      included. Who is alone on an idle model never waits.
//   4. A request is refused when it comes if what is before it takes too long.
#pragma once

#include <vector>

#include "base/clock.h"
#include "sched/service_time.h"

namespace pyinfer {

struct SloView {
  struct Waiting {
    int64_t rows = 1;
    TimeNs deadline = 0;
  };

  // The requests that may form one batch; together at most max_batch_size rows, except for a lone first.
  std::vector<Waiting> first;
  bool saturated = false;    // no request that may come could be added to them
  int64_t rows_waiting = 0;  // of all that wait
  int64_t most_rows = 1;     // of a batch
  size_t running = 0;        // executions under way
  size_t instances = 1;
  TimeNs free_at = 0;  // when one of the instances is likely to be free
  // When the next row is to be expected, from when the last came; 0 where nothing is known.
  TimeNs interval = 0;
  TimeNs last_arrival = 0;
  std::vector<int64_t> tries;  // sizes of which something can be learned: one of them goes first if it can
};

struct SloDecision {
  size_t drop = 0;   // of the first requests, that can not be answered in time but at too high a price
  size_t take = 0;   // of those after them; 0 with until: wait
  TimeNs until = 0;  // when to look again
};

// What an execution may take, so that those that come while it runs can be answered by the next.
inline TimeNs ExecutionBudget(TimeNs slo) { return slo * 3 / 5; }

SloDecision DecideSlo(const SloView& view, TimeNs now, const ServiceTimes& times, TimeNs slo);

// When a request of `rows` rows would be answered if it came now; `now` while nothing is known.
TimeNs ExpectedAnswer(const SloView& view, int64_t rows, TimeNs now, const ServiceTimes& times, TimeNs slo);

}  // namespace pyinfer
