// SPDX-License-Identifier: Apache-2.0
#include "sched/rate_limiter.h"

#include <utility>

namespace pyinfer {

StatusOr<std::shared_ptr<LimitedInstance>> RateLimiter::Enter(const InstanceLimits& limits) {
  std::lock_guard<std::mutex> lock(mutex_);
  const StatusOr<size_t> holder = ledger_.Enter(limits);
  if (!holder.ok()) return holder.status();
  waiters_[holder.value()];
  DecideLocked();  // there may be more of a resource now
  return std::make_shared<LimitedInstance>(shared_from_this(), holder.value());
}

void RateLimiter::Reconsider() {
  std::lock_guard<std::mutex> lock(mutex_);
  DecideLocked();
}

void RateLimiter::DecideLocked() {
  const auto changes = ledger_.Grant([this](size_t holder) { return waiters_.at(holder).wanted(); });
  for (const auto* changed : {&changes.granted, &changes.withdrawn}) {
    // Under the lock: the waiter may leave as soon as it is free.
    for (const size_t holder : *changed) waiters_.at(holder).decided.notify_one();
  }
}

std::map<std::pair<std::string, int64_t>, ResourceLedger::Use> RateLimiter::uses() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return ledger_.uses();
}

LimitedInstance::LimitedInstance(std::shared_ptr<RateLimiter> limiter, size_t holder)
    : limiter_(std::move(limiter)), holder_(holder) {}

LimitedInstance::~LimitedInstance() {
  std::lock_guard<std::mutex> lock(limiter_->mutex_);
  limiter_->ledger_.Leave(holder_);
  limiter_->waiters_.erase(holder_);
  limiter_->DecideLocked();
}

bool LimitedInstance::Ask(std::function<bool()> wanted) {
  std::lock_guard<std::mutex> lock(limiter_->mutex_);
  ResourceLedger& ledger = limiter_->ledger_;
  if (!ledger.holds(holder_)) {
    limiter_->waiters_.at(holder_).wanted = std::move(wanted);
    if (!ledger.waits(holder_)) ledger.Ask(holder_);
    limiter_->DecideLocked();
  }
  return ledger.holds(holder_) && !taken_;
}

bool LimitedInstance::Wait() {
  std::unique_lock<std::mutex> lock(limiter_->mutex_);
  limiter_->waiters_.at(holder_).decided.wait(lock, [this] { return !limiter_->ledger_.waits(holder_); });
  return limiter_->ledger_.holds(holder_);
}

void LimitedInstance::Decline() { GiveBack(/*executed=*/false); }

std::shared_ptr<HeldResources> LimitedInstance::Hold() {
  {
    std::lock_guard<std::mutex> lock(limiter_->mutex_);
    taken_ = true;
  }
  return std::make_shared<HeldResources>(shared_from_this());
}

bool LimitedInstance::CouldHold(const std::vector<const LimitedInstance*>& keeping) const {
  std::set<size_t> holders;
  for (const LimitedInstance* one : keeping) holders.insert(one->holder_);
  std::lock_guard<std::mutex> lock(limiter_->mutex_);
  return limiter_->ledger_.CouldHold(holder_, holders);
}

void LimitedInstance::GiveBack(bool executed) {
  std::lock_guard<std::mutex> lock(limiter_->mutex_);
  taken_ = false;
  limiter_->ledger_.GiveBack(holder_, executed);
  // In line before it is decided who is next: it would always come too late, though it may have executed least.
  if (executed && limiter_->waiters_.at(holder_).wanted()) limiter_->ledger_.Ask(holder_);
  limiter_->DecideLocked();
}

}  // namespace pyinfer
