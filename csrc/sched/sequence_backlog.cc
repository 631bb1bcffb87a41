// SPDX-License-Identifier: Apache-2.0
// sequence_backlog.cc - sequences whose time is over before they got a slot.
#include <algorithm>
#include <iterator>
#include <utility>

#include "sched/sequence_source.h"

namespace pyinfer {

TimeNs SequenceSource::Expire(TimeNs now) {
  std::vector<RequestPtr> expired;
  TimeNs next = 0;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ExpireLocked(now);  // what is idle makes room before anything is given up
    const auto over = [&](const SequencePtr& sequence) {
      const TimeNs deadline = sequence->deadline;
      if (deadline == 0 || deadline > now) {
        if (deadline != 0 && (next == 0 || deadline < next)) next = deadline;
        return false;
      }
      EndLocked(*sequence);
      std::move(sequence->requests.begin(), sequence->requests.end(), std::back_inserter(expired));
      return true;
    };
    backlog_.erase(std::remove_if(backlog_.begin(), backlog_.end(), over), backlog_.end());
    if (!expired.empty()) NotifyAllLocked();  // an instance that is to end may wait for the backlog
  }
  for (RequestPtr& request : expired) {
    request->Fail(FailureReason::kRejected,
                  Status::Unavailable("timeout of the corresponding sequence has been expired"));
  }
  return next;
}

}  // namespace pyinfer
