// SPDX-License-Identifier: Apache-2.0
// request_queue.h - requests that wait, by priority and arrival, under the queue policies of their levels.
//
// Level 1 is taken first. Within a level, requests whose time in the queue is over come last (action DELAY) or are
// refused (action REJECT). Not thread safe: its owner has a lock.
//
// Source of the rules: Triton's priority queue and queue policy.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "infer/request.h"

namespace pyinfer {

// When the time of `request` in the queue is over, given the model's policies and when it was queued; 0 for never.
// A timeout of the client only ever shortens the policy's.
TimeNs QueueDeadline(const QueueOptions& options, const Request& request);

class RequestQueue {
 public:
  // `options` must outlive this.
  explicit RequestQueue(const QueueOptions& options) : options_(options) {}

  // Takes `request` unless its level is full. Requires: request->queue_deadline is set.
  Status Push(RequestPtr& request);

  // Calls `look` for each request, in the order in which they are to be taken, until it returns false.
  template <typename Look>
  void ForEach(Look look) const {
    for (const auto& [number, level] : levels_) {
      for (const auto* part : {&level.waiting, &level.delayed}) {
        for (const RequestPtr& request : *part) {
          if (!look(*request)) return;
        }
      }
    }
  }

  // The first `count`, in order. Requires: count <= size().
  std::vector<RequestPtr> TakeFirst(size_t count);
  // Moves those of the first `count` that are cancelled to `removed`; false where there was none.
  bool RemoveCancelled(size_t count, std::vector<RequestPtr>& removed);
  // Moves those whose time is over at `now` to `refused`, or behind the others, as their policy says.
  void Expire(TimeNs now, std::vector<RequestPtr>& refused);
  // No request's time is over before this; 0 for never.
  TimeNs next_deadline() const { return next_deadline_; }
  std::vector<RequestPtr> TakeAll() { return TakeFirst(size_); }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

 private:
  struct Level {
    std::deque<RequestPtr> waiting;
    std::deque<RequestPtr> delayed;

    size_t size() const { return waiting.size() + delayed.size(); }
  };

  // Whether one of the first `count` is cancelled. Requires: count > 0.
  bool AnyCancelled(size_t count) const;
  void DropEmptyLevels();

  const QueueOptions& options_;
  std::map<uint64_t, Level> levels_;
  size_t size_ = 0;
  TimeNs next_deadline_ = 0;
};

}  // namespace pyinfer
