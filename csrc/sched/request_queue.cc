// SPDX-License-Identifier: Apache-2.0
#include "sched/request_queue.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

#include "infer/validate.h"
#include "sched/queued.h"

namespace pyinfer {
namespace {

// Empty levels are kept up to this many, so that a steady load allocates nothing; clients choose the numbers.
constexpr size_t kKeptLevels = 16;

// A priority that the model does not have means its default.
uint64_t LevelOf(const QueueOptions& options, uint64_t priority) {
  const bool known = priority != 0 && priority <= options.priority_levels;
  return known ? priority : options.default_priority_level;
}

const QueuePolicy& PolicyOf(const QueueOptions& options, uint64_t level) {
  const auto found = options.policies.find(level);
  return found == options.policies.end() ? options.default_policy : found->second;
}

void Lower(TimeNs& earliest, TimeNs deadline) {
  if (deadline != 0 && (earliest == 0 || deadline < earliest)) earliest = deadline;
}

}  // namespace

TimeNs QueueDeadline(const QueueOptions& options, const Request& request) {
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
  Lower(next_deadline_, request->queue_deadline);
  level.waiting.push_back(std::move(request));
  ++size_;
  return Status();
}

std::vector<RequestPtr> RequestQueue::TakeFirst(size_t count) {
  std::vector<RequestPtr> taken;
  taken.reserve(count);
  for (auto& [number, level] : levels_) {
    for (auto* part : {&level.waiting, &level.delayed}) {
      while (taken.size() < count && !part->empty()) {
        taken.push_back(std::move(part->front()));
        part->pop_front();
      }
    }
    if (taken.size() == count) break;
  }
  size_ -= taken.size();
  DropEmptyLevels();
  return taken;
}

bool RequestQueue::AnyCancelled(size_t count) const {
  bool any = false;
  ForEach([&](const Request& request) {
    any = request.cancelled();
    return !any && --count != 0;
  });
  return any;
}

bool RequestQueue::RemoveCancelled(size_t count, std::vector<RequestPtr>& removed) {
  // Looked at twice, so that the common case moves nothing; once cancelled, a request stays so.
  if (count == 0 || !AnyCancelled(count)) return false;
  const auto cancelled = [](const RequestPtr& request) { return request->cancelled(); };
  const size_t before = size_;
  for (auto& [number, level] : levels_) {
    for (auto* part : {&level.waiting, &level.delayed}) {
      const size_t looked_at = std::min(count, part->size());
      const auto end = part->begin() + static_cast<std::ptrdiff_t>(looked_at);
      count -= looked_at;
      const auto gone = std::stable_partition(part->begin(), end, std::not_fn(cancelled));
      size_ -= static_cast<size_t>(std::distance(gone, end));
      std::move(gone, end, std::back_inserter(removed));
      part->erase(gone, end);
    }
    if (count == 0) break;
  }
  DropEmptyLevels();
  return size_ != before;
}

void RequestQueue::Expire(TimeNs now, std::vector<RequestPtr>& refused) {
  if (next_deadline_ == 0 || now < next_deadline_) return;
  next_deadline_ = 0;
  const auto in_time = [now](const RequestPtr& request) {
    return request->queue_deadline == 0 || now < request->queue_deadline;
  };
  for (auto& [number, level] : levels_) {
    const auto over = std::stable_partition(level.waiting.begin(), level.waiting.end(), in_time);
    if (PolicyOf(options_, number).timeout_action == QueuePolicy::TimeoutAction::kDelay) {
      std::move(over, level.waiting.end(), std::back_inserter(level.delayed));
    } else {
      size_ -= static_cast<size_t>(std::distance(over, level.waiting.end()));
      std::move(over, level.waiting.end(), std::back_inserter(refused));
    }
    level.waiting.erase(over, level.waiting.end());
    for (const RequestPtr& request : level.waiting) Lower(next_deadline_, request->queue_deadline);
  }
  DropEmptyLevels();
}

void RequestQueue::DropEmptyLevels() {
  if (levels_.size() <= kKeptLevels) return;
  for (auto level = levels_.begin(); level != levels_.end();) {
    level = level->second.size() == 0 ? levels_.erase(level) : std::next(level);
  }
}

}  // namespace pyinfer
