// SPDX-License-Identifier: Apache-2.0
// request_queue.h - requests that wait, by priority and arrival, under the queue policies of their levels.
//
// Level 1 is taken first. Where the model has a latency SLO, a level is ordered by when answers are due. Within a
// level, requests whose time in the queue is over come last (action DELAY) or are refused (action REJECT). Not thread
// safe: its owner has a lock.
//
// However many wait: to push one costs the logarithm of their number at most, and what takes, removes or looks at some
// of them costs so much for each of these.
//
// Source of the rules: Triton's priority queue and queue policy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <vector>

#include "base/clock.h"
#include "base/quad_heap.h"
#include "base/status.h"
#include "infer/request.h"

namespace pyinfer {

// When the time of `request` in the queue is over, given the model's policies and when it was queued; 0 for never.
// A timeout of the client only ever shortens the policy's. Of a model with a latency SLO: when its answer is due.
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
      for (const Entries* part : {&level.waiting, &level.delayed}) {
        for (const Entry& entry : *part) {
          ++steps_;
          if (!look(*entry.request)) return;
        }
      }
    }
  }

  // The first `count`, in order. Requires: count <= size().
  std::vector<RequestPtr> TakeFirst(size_t count);
  // Those at the first `count` of `places`, which ascend and are below size().
  std::vector<RequestPtr> TakeAt(const std::vector<size_t>& places, size_t count);
  // Moves those of the first `count` that are cancelled to `removed`; false where there was none.
  bool RemoveCancelled(size_t count, std::vector<RequestPtr>& removed);
  // Moves those whose time is over at `now` to `refused`, or behind the others, as their policy says.
  void Expire(TimeNs now, std::vector<RequestPtr>& refused);
  // No request's time is over before this; 0 for never.
  TimeNs next_deadline() const { return deadlines_.empty() ? 0 : deadlines_.front().at; }
  std::vector<RequestPtr> TakeAll() { return TakeFirst(size_); }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  // Entries looked at in all this queue's life: what the promise above is held to.
  uint64_t steps() const { return steps_; }

 private:
  struct Entry {
    RequestPtr request;
    uint64_t level = 0;
    uint64_t arrival = 0;  // a number of its own; 0 while the entry is spare
    bool timed = false;    // it is in deadlines_
  };
  using Entries = std::list<Entry>;
  struct Level {
    Entries waiting;
    Entries delayed;

    size_t size() const { return waiting.size() + delayed.size(); }
  };
  struct Deadline {
    TimeNs at = 0;
    uint64_t arrival = 0;
    Entries::iterator entry;  // another request's, or spare, where its arrival is not this one

    bool stale() const { return entry->arrival != arrival; }
    bool operator<(const Deadline& other) const { return at < other.at; }
  };
  using Levels = std::map<uint64_t, Level>;

  // Where `request` goes. With a latency SLO, it passes those that are due later; their number is kept small by
  // refusals.
  Entries::iterator PlaceOf(const Request& request, Entries& waiting) const;
  // The request of `entry`, which becomes spare.
  RequestPtr Remove(Entries& part, Entries::iterator entry);
  // The level after `level`, which may be dropped.
  Levels::iterator Leave(Levels::iterator level);
  // Forgets the deadlines of requests that are gone, once they are more than the others.
  void Compact();

  const QueueOptions& options_;
  Levels levels_;
  // A request that goes leaves its deadline here: to find it would cost more than to pass over it later. No entry is
  // freed while one here may point to it.
  QuadHeap<Deadline> deadlines_;
  Entries spare_;
  size_t size_ = 0;
  size_t timed_ = 0;
  uint64_t arrivals_ = 0;
  mutable uint64_t steps_ = 0;
};

}  // namespace pyinfer
