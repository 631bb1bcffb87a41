// SPDX-License-Identifier: Apache-2.0
// model_limits.cc - the instances of a Model: which take batches, and what they have to hold while they execute.
#include <utility>

#include "engine/model.h"
#include "sched/rate_limiter.h"

namespace pyinfer {

std::shared_ptr<LimitedInstance> Model::LimitsOf(size_t instance) const {
  std::lock_guard<std::mutex> lock(limits_mutex_);
  return instance < entries_.size() ? entries_[instance].limits : nullptr;
}

bool Model::takes_batches(size_t instance) const {
  std::lock_guard<std::mutex> lock(limits_mutex_);
  return instance < entries_.size() && !entries_[instance].removed;
}

std::vector<std::shared_ptr<const LimitedInstance>> Model::Limits() const {
  std::vector<std::shared_ptr<const LimitedInstance>> found;
  std::lock_guard<std::mutex> lock(limits_mutex_);
  for (const InstanceEntry& entry : entries_) {
    if (entry.removed) continue;  // what it still holds comes back, and it takes nothing new
    if (!entry.limits) return {};
    found.push_back(entry.limits);
  }
  return found;
}

void Model::SetLimits(size_t instance, std::shared_ptr<LimitedInstance> limited) {
  // What was there leaves the limiter when no execution holds it, and without the lock.
  std::lock_guard<std::mutex> lock(limits_mutex_);
  if (instance >= entries_.size()) entries_.resize(instance + 1);
  std::swap(entries_[instance].limits, limited);
}

void Model::NoteRemoved(size_t instance) {
  std::lock_guard<std::mutex> lock(limits_mutex_);
  entries_.at(instance).removed = true;
}

Batch Model::TakeLimited(size_t instance, bool wait) {
  const std::shared_ptr<LimitedInstance> limited = LimitsOf(instance);
  if (limited) {
    const auto ripe = [this, instance] {
      const TimeNs now = clock_->Now();
      return source_->RipeAt(instance, now) == now;
    };
    if (!limited->Ask(ripe)) {
      if (!wait) return Batch();
      // It was woken for a request, and another instance may have what it needs.
      source_->Wake();
      if (!limited->Wait()) return Batch();
    }
  }
  // Here, not before: what came while it was in line is part of the batch.
  Batch batch = source_->Take(instance, clock_->Now());
  if (limited && batch.empty()) limited->Decline();
  if (limited && !batch.empty()) batch.Hold(limited->Hold());
  limiter_->Reconsider();  // what it took may be what others were in line for
  return batch;
}

}  // namespace pyinfer
