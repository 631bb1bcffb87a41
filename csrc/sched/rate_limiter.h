// SPDX-License-Identifier: Apache-2.0
// rate_limiter.h - a ResourceLedger that the instances of all models share, each on a thread of its own.
//
// Any thread. Nothing blocks but LimitedInstance::Wait. `wanted` is called with the limiter's lock held: it may take
// the lock of a queue, and must not call the limiter.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sched/resources.h"

namespace pyinfer {

class HeldResources;
class LimitedInstance;

class RateLimiter : public std::enable_shared_from_this<RateLimiter> {
 public:
  explicit RateLimiter(const std::vector<ResourceTotal>& totals) : ledger_(totals) {}

  // As ResourceLedger::Enter. It leaves when the last owner lets go of it.
  StatusOr<std::shared_ptr<LimitedInstance>> Enter(const InstanceLimits& limits);
  // Something that waits may have lost its work.
  void Reconsider();
  std::map<std::pair<std::string, int64_t>, ResourceLedger::Use> uses() const;

 private:
  friend class LimitedInstance;

  struct Waiter {
    std::function<bool()> wanted;
    std::condition_variable decided;
  };

  // Requires: mutex_ is held.
  void DecideLocked();

  mutable std::mutex mutex_;
  ResourceLedger ledger_;
  std::unordered_map<size_t, Waiter> waiters_;  // of every holder
};

// One instance of a model, as the limiter knows it. One thread at a time asks; any thread gives back.
class LimitedInstance final : public std::enable_shared_from_this<LimitedInstance> {
 public:
  // For RateLimiter::Enter.
  LimitedInstance(std::shared_ptr<RateLimiter> limiter, size_t holder);
  ~LimitedInstance();
  LimitedInstance(const LimitedInstance&) = delete;
  LimitedInstance& operator=(const LimitedInstance&) = delete;

  // Gets in line, unless it is there. True where it may execute now, and holds what it needs. False also where it
  // executes already. `wanted` says whether there is still something to execute; it is called from any thread, until
  // the instance has left, and as long as an execution holds something.
  bool Ask(std::function<bool()> wanted);
  // Blocks until it holds what it needs (true), or is not in line any more (false). Requires: Ask() was false.
  bool Wait();
  // What it asked for is here, and there is nothing to execute after all.
  void Decline();
  // What it asked for, for one execution; it gets in line again afterwards if there is more to execute. Requires: Ask()
  // or Wait() was true.
  std::shared_ptr<HeldResources> Hold();
  // Whether it would get what it needs if those of `keeping`, which all are of its limiter, never gave back what they
  // hold, and all others did. It is not one of them.
  bool CouldHold(const std::vector<const LimitedInstance*>& keeping) const;

 private:
  friend class HeldResources;

  void GiveBack(bool executed);

  const std::shared_ptr<RateLimiter> limiter_;
  const size_t holder_;
  bool taken_ = false;  // guarded by limiter_->mutex_: Hold() was called
};

// What an instance holds for one execution: given back when the last owner lets go.
class HeldResources {
 public:
  explicit HeldResources(std::shared_ptr<LimitedInstance> instance) : instance_(std::move(instance)) {}
  ~HeldResources() { instance_->GiveBack(/*executed=*/true); }
  HeldResources(const HeldResources&) = delete;
  HeldResources& operator=(const HeldResources&) = delete;

  const std::shared_ptr<LimitedInstance>& instance() const { return instance_; }

 private:
  const std::shared_ptr<LimitedInstance> instance_;
};

}  // namespace pyinfer
