// SPDX-License-Identifier: Apache-2.0
#include "engine/lending.h"

#include <algorithm>

namespace pyinfer {

InstanceLending::Entry* InstanceLending::FindLocked(size_t instance) {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& one) { return one.instance == instance; });
  return found == entries_.end() ? nullptr : &*found;
}

void InstanceLending::Offer(size_t instance, BatchRunner* runner) {
  std::lock_guard<std::mutex> lock(mutex_);
  entries_.push_back({instance, runner, Hands::kOwn});
  offers_.store(true, std::memory_order_release);
}

void InstanceLending::Withdraw(size_t instance) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto is_it = [&](const Entry& one) { return one.instance == instance; };
  entries_.erase(std::remove_if(entries_.begin(), entries_.end(), is_it), entries_.end());
  offers_.store(!entries_.empty(), std::memory_order_release);
}

void InstanceLending::Rest(size_t instance) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (Entry* entry = FindLocked(instance)) entry->hands = Hands::kNone;
}

bool InstanceLending::Resume(size_t instance) {
  std::lock_guard<std::mutex> lock(mutex_);
  Entry* const entry = FindLocked(instance);
  if (entry == nullptr) return true;
  if (entry->hands == Hands::kBorrower) return false;
  entry->hands = Hands::kOwn;
  return true;
}

void InstanceLending::Await(size_t instance) {
  std::unique_lock<std::mutex> lock(mutex_);
  returned_.wait(lock, [&] { return FindLocked(instance)->hands != Hands::kBorrower; });
  FindLocked(instance)->hands = Hands::kOwn;
}

InstanceLending::Lent InstanceLending::Borrow() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (Entry& entry : entries_) {
    if (entry.hands != Hands::kNone) continue;
    entry.hands = Hands::kBorrower;
    return {entry.instance, entry.runner};
  }
  return {};
}

void InstanceLending::GiveBack(const Lent& lent) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    FindLocked(lent.instance)->hands = Hands::kNone;
  }
  returned_.notify_all();
}

}  // namespace pyinfer
