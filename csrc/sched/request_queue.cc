// SPDX-License-Identifier: Apache-2.0
#include "sched/request_queue.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

#include "infer/validate.h"
#include "sched/queued.h"

namespace pyinfer {
namespace {

// Empty levels are kept up to this many, so that a steady load allocates nothing; clients choose the numbers.
constexpr size_t kKeptLevels = 16;
// As many spare entries, and deadlines of requests that are gone, are kept however few wait.
constexpr size_t kKept = 256;

// A priority that the model does not have means its default.
uint64_t LevelOf(const QueueOptions& options, uint64_t priority) {
  const bool known = priority != 0 && priority <= options.priority_levels;
  return known ? priority : options.default_priority_level;
}

const QueuePolicy& PolicyOf(const QueueOptions& options, uint64_t level) {
  const auto found = options.policies.find(level);
  return found == options.policies.end() ? options.default_policy : found->second;
}

}  // namespace

TimeNs QueueDeadline(const QueueOptions& options, const Request& request) {
  if (options.latency_slo_ns != 0) {
    const TimeNs due = request.timeline.queued + options.latency_slo_ns;
    const TimeNs own = OwnDeadline(request);
    return own == 0 ? due : std::min(due, own);
  }
  const QueuePolicy& policy = PolicyOf(options, LevelOf(options, request.priority));
  if (policy.default_timeout_ns == 0) return 0;
  const TimeNs deadline = request.timeline.queued + policy.default_timeout_ns;
  const TimeNs own = policy.allow_timeout_override ? OwnDeadline(request) : 0;
  return own == 0 ? deadline : std::min(deadline, own);
}

Status RequestQueue::Push(RequestPtr& request) {
  const uint64_t number = LevelOf(options_, request->priority);
  const size_t limit = PolicyOf(options_, number).max_queue_size;
  Level& level = levels_[number];
  if (limit != 0 && level.size() >= limit) {
    return WithRequestId(*request, Status::Unavailable("Exceeds maximum queue size"));
  }
  if (spare_.empty()) spare_.emplace_back();
  const auto entry = spare_.begin();
  level.waiting.splice(PlaceOf(*request, level.waiting), spare_, entry);
  entry->level = number;
  entry->arrival = ++arrivals_;
  entry->timed = request->queue_deadline != 0;
  if (entry->timed) {
    deadlines_.Push({request->queue_deadline, entry->arrival, entry});
    ++timed_;
  }
  entry->request = std::move(request);
  ++size_;
  return Status();
}

RequestQueue::Entries::iterator RequestQueue::PlaceOf(const Request& request, Entries& waiting) const {
  auto place = waiting.end();
  if (options_.latency_slo_ns == 0) return place;
  const TimeNs due = QueueDeadline(options_, request);
  while (place != waiting.begin() && due < QueueDeadline(options_, *std::prev(place)->request)) --place;
  return place;
}

RequestPtr RequestQueue::Remove(Entries& part, Entries::iterator entry) {
  RequestPtr request = std::move(entry->request);
  timed_ -= entry->timed ? 1 : 0;
  entry->arrival = 0;
  spare_.splice(spare_.begin(), part, entry);
  --size_;
  ++steps_;
  return request;
}

RequestQueue::Levels::iterator RequestQueue::Leave(Levels::iterator level) {
  const bool drop = level->second.size() == 0 && levels_.size() > kKeptLevels;
  return drop ? levels_.erase(level) : std::next(level);
}

std::vector<RequestPtr> RequestQueue::TakeFirst(size_t count) {
  std::vector<RequestPtr> taken;
  taken.reserve(count);
  for (auto level = levels_.begin(); level != levels_.end() && taken.size() < count; level = Leave(level)) {
    for (Entries* part : {&level->second.waiting, &level->second.delayed}) {
      while (taken.size() < count && !part->empty()) taken.push_back(Remove(*part, part->begin()));
    }
  }
  Compact();
  return taken;
}

std::vector<RequestPtr> RequestQueue::TakeAt(const std::vector<size_t>& places, size_t count) {
  std::vector<RequestPtr> taken;
  taken.reserve(count);
  size_t place = 0;
  for (auto level = levels_.begin(); level != levels_.end() && taken.size() < count; level = Leave(level)) {
    for (Entries* part : {&level->second.waiting, &level->second.delayed}) {
      for (auto entry = part->begin(); entry != part->end() && taken.size() < count; ++place) {
        ++steps_;
        const auto looked_at = entry++;
        if (place == places[taken.size()]) taken.push_back(Remove(*part, looked_at));
      }
    }
  }
  Compact();
  return taken;
}

bool RequestQueue::RemoveCancelled(size_t count, std::vector<RequestPtr>& removed) {
  const size_t before = size_;
  for (auto level = levels_.begin(); level != levels_.end() && count != 0; level = Leave(level)) {
    for (Entries* part : {&level->second.waiting, &level->second.delayed}) {
      for (auto entry = part->begin(); entry != part->end() && count != 0; --count) {
        ++steps_;
        const auto looked_at = entry++;
        if (looked_at->request->cancelled()) removed.push_back(Remove(*part, looked_at));
      }
    }
  }
  Compact();
  return size_ != before;
}

void RequestQueue::Expire(TimeNs now, std::vector<RequestPtr>& refused) {
  if (deadlines_.empty() || now < deadlines_.front().at) return;
  std::vector<Entries::iterator> over;
  for (; !deadlines_.empty() && (deadlines_.front().stale() || deadlines_.front().at <= now); deadlines_.Pop()) {
    if (!deadlines_.front().stale()) over.push_back(deadlines_.front().entry);
    ++steps_;
  }
  // As if the queue was gone through from its head.
  std::sort(over.begin(), over.end(), [](Entries::iterator a, Entries::iterator b) {
    return std::tie(a->level, a->arrival) < std::tie(b->level, b->arrival);
  });
  for (const Entries::iterator entry : over) {
    const auto level = levels_.find(entry->level);
    Entries& waiting = level->second.waiting;
    if (PolicyOf(options_, entry->level).timeout_action == QueuePolicy::TimeoutAction::kDelay) {
      entry->timed = false;
      --timed_;
      level->second.delayed.splice(level->second.delayed.end(), waiting, entry);
    } else {
      refused.push_back(Remove(waiting, entry));
      Leave(level);
    }
  }
  Compact();
}

void RequestQueue::Compact() {
  const size_t stale = deadlines_.size() - timed_;
  if (stale > timed_ + kKept || (stale != 0 && spare_.size() > size_ + kKept)) {
    steps_ += deadlines_.size();
    deadlines_.RemoveIf([](const Deadline& deadline) { return deadline.stale(); });
  }
  while (deadlines_.size() == timed_ && spare_.size() > kKept) spare_.pop_back();
}

}  // namespace pyinfer
