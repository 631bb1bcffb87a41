// SPDX-License-Identifier: Apache-2.0
#include "engine/lending.h"

#include <algorithm>
#include <utility>

namespace pyinfer {

InstanceLending::Entry* InstanceLending::FindLocked(size_t instance) {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& one) { return one.lent.instance == instance; });
  return found == entries_.end() ? nullptr : &*found;
}

void InstanceLending::Offer(size_t instance, BatchRunner* runner) { Add({instance, runner, nullptr}); }

void InstanceLending::Offer(size_t instance, BatchStarter* starter) { Add({instance, nullptr, starter}); }

void InstanceLending::Add(Lent lent) {
  std::lock_guard<std::mutex> lock(mutex_);
  entries_.push_back({lent, Hands::kOwn});
  (lent.runner != nullptr ? runners_ : starters_).fetch_add(1, std::memory_order_release);
}

void InstanceLending::Withdraw(size_t instance) {
  std::lock_guard<std::mutex> lock(mutex_);
  Entry* const entry = FindLocked(instance);
  if (entry == nullptr) return;
  (entry->lent.runner != nullptr ? runners_ : starters_).fetch_sub(1, std::memory_order_release);
  entries_.erase(entries_.begin() + (entry - entries_.data()));
}

void InstanceLending::Rest(size_t instance) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (Entry* entry = FindLocked(instance)) entry->hands = Hands::kNone;
}

BatchStarter* InstanceLending::RestToWatch(size_t instance) {
  std::lock_guard<std::mutex> lock(mutex_);
  Entry* const entry = FindLocked(instance);
  if (entry == nullptr || entry->lent.starter == nullptr || !entry->lent.starter->PrepareWatch()) return nullptr;
  entry->hands = Hands::kNone;
  entry->watches = true;
  return entry->lent.starter;
}

BatchStarter* InstanceLending::WatchBegun(size_t instance) {
  std::lock_guard<std::mutex> lock(mutex_);
  Entry* const entry = FindLocked(instance);
  if (entry == nullptr || entry->hands != Hands::kBegun || !entry->rings) return nullptr;
  if (!entry->lent.starter->PrepareWatch()) return nullptr;
  entry->watches = true;
  return entry->lent.starter;
}

bool InstanceLending::KeepWatching(size_t instance) {
  std::lock_guard<std::mutex> lock(mutex_);
  const Entry& entry = *FindLocked(instance);
  const bool is_for_others = entry.hands == Hands::kNone || (entry.hands == Hands::kBegun && entry.rings);
  return is_for_others && entry.lent.starter->KeepWatching();
}

InstanceLending::Back InstanceLending::TakeLocked(Entry& entry) {
  if (entry.hands == Hands::kBorrower) return Back::kLent;
  entry.watches = false;
  return std::exchange(entry.hands, Hands::kOwn) == Hands::kBegun ? Back::kBegun : Back::kAsItWas;
}

InstanceLending::Back InstanceLending::Resume(size_t instance) {
  std::lock_guard<std::mutex> lock(mutex_);
  Entry* const entry = FindLocked(instance);
  return entry == nullptr ? Back::kAsItWas : TakeLocked(*entry);
}

InstanceLending::Back InstanceLending::Await(size_t instance) {
  std::unique_lock<std::mutex> lock(mutex_);
  returned_.wait(lock, [&] { return FindLocked(instance)->hands != Hands::kBorrower; });
  return TakeLocked(*FindLocked(instance));
}

InstanceLending::Lent InstanceLending::BorrowLocked(bool to_begin) {
  for (Entry& entry : entries_) {
    if (entry.hands != Hands::kNone || (entry.lent.starter != nullptr) != to_begin) continue;
    entry.hands = Hands::kBorrower;
    return entry.lent;
  }
  return {};
}

InstanceLending::Lent InstanceLending::Borrow() {
  std::lock_guard<std::mutex> lock(mutex_);
  return BorrowLocked(/*to_begin=*/false);
}

InstanceLending::Lent InstanceLending::BorrowToBegin() {
  std::lock_guard<std::mutex> lock(mutex_);
  return BorrowLocked(/*to_begin=*/true);
}

InstanceLending::Lent InstanceLending::BorrowBegun(size_t least) {
  std::lock_guard<std::mutex> lock(mutex_);
  Entry* first = nullptr;
  for (Entry& entry : entries_) {
    if (entry.hands != Hands::kBegun || !entry.rings || entry.lent.instance < least) continue;
    if (first == nullptr || entry.lent.instance < first->lent.instance) first = &entry;
  }
  if (first == nullptr) return {};
  first->hands = Hands::kBorrower;
  return first->lent;
}

void InstanceLending::GiveBack(const Lent& lent) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    FindLocked(lent.instance)->hands = Hands::kNone;
  }
  returned_.notify_all();
}

bool InstanceLending::GiveBackBegun(const Lent& lent, HeardBy heard) {
  bool watches = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    Entry& entry = *FindLocked(lent.instance);
    entry.hands = Hands::kBegun;
    entry.rings = heard == HeardBy::kDoorbell;
    watches = entry.watches;
    if (watches && heard == HeardBy::kNobody) lent.starter->Wake();
  }
  returned_.notify_all();
  return !watches;
}

void InstanceLending::WakeWatching() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const Entry& entry : entries_) {
    if (entry.watches && entry.hands == Hands::kNone) entry.lent.starter->Wake();
  }
}

}  // namespace pyinfer
