// SPDX-License-Identifier: Apache-2.0
#include "engine/remote_cache.h"

#include <utility>

#include "base/burst.h"
#include "engine/kept_response.h"

namespace pyinfer {

RemoteCache::RemoteCache(const Limits& limits) : limits_(limits), watch_([this] { Watch(); }) {}

RemoteCache::~RemoteCache() { Close(); }

bool RemoteCache::Ask(const std::string& key, Found found) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (closed_ || !reachable_ || lookups_.size() >= limits_.most_lookups) return false;
    const uint64_t id = ++ids_;
    lookups_.emplace(id, Lookup{clock_.Now() + limits_.patience, std::move(found)});
    jobs_.push_back({id, key, std::nullopt});
    // Later ones end later: only the first one moves the end of the watch's sleep.
    if (lookups_.size() == 1) waiting_.notify_one();
  }
  work_.notify_one();
  return true;
}

void RemoteCache::Insert(std::string key, const Response& response) {
  std::optional<std::string> bytes = EncodeResponse(response);
  if (!bytes || bytes->size() > limits_.most_entry_bytes) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const size_t size = key.size() + bytes->size();
    if (closed_ || !reachable_ || queued_bytes_ + size > limits_.most_queued_bytes) return;
    queued_bytes_ += size;
    jobs_.push_back({++ids_, std::move(key), std::move(bytes)});
  }
  work_.notify_one();
}

std::vector<RemoteCache::Job> RemoteCache::Take(std::chrono::nanoseconds timeout, size_t most) {
  std::vector<Job> taken;
  std::unique_lock<std::mutex> lock(mutex_);
  work_.wait_for(lock, timeout, [this] { return closed_ || !jobs_.empty(); });
  while (taken.size() < most && !jobs_.empty()) {
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    if (job.value) queued_bytes_ -= job.key.size() + job.value->size();
    if (job.value || lookups_.count(job.id) != 0) taken.push_back(std::move(job));
  }
  return taken;
}

void RemoteCache::Answer(uint64_t id, const std::optional<Slice>& bytes) {
  Found found;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto lookup = lookups_.find(id);
    if (lookup == lookups_.end()) return;
    found = std::move(lookup->second.found);
    lookups_.erase(lookup);
  }
  found(bytes ? DecodeResponse(*bytes) : std::nullopt);
}

RemoteCache::Lookups RemoteCache::GiveUpLocked() {
  jobs_.clear();
  queued_bytes_ = 0;
  return std::exchange(lookups_, {});
}

void RemoteCache::Miss(Lookups& lookups) {
  const Burst burst;
  for (auto& [id, lookup] : lookups) lookup.found(std::nullopt);
}

void RemoteCache::SetReachable(bool reachable) {
  Lookups missed;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    reachable_ = reachable;
    if (!reachable) missed = GiveUpLocked();
  }
  Miss(missed);
}

bool RemoteCache::reachable() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return reachable_;
}

bool RemoteCache::closed() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return closed_;
}

void RemoteCache::Close() {
  Lookups missed;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    missed = GiveUpLocked();
  }
  work_.notify_all();
  waiting_.notify_all();
  Miss(missed);
  std::call_once(joined_, [this] { watch_.join(); });
}

void RemoteCache::Watch() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!closed_) {
    const TimeNs until = lookups_.empty() ? 0 : lookups_.begin()->second.until;
    if (until != 0 && clock_.Now() >= until) {
      reachable_ = false;
      Lookups missed = GiveUpLocked();
      lock.unlock();
      Miss(missed);
      lock.lock();
      continue;
    }
    clock_.Wait(waiting_, lock, until);
  }
}

}  // namespace pyinfer
