// SPDX-License-Identifier: Apache-2.0
#include "engine/call.h"

#include <utility>

namespace pyinfer {

std::optional<Call::Item> Call::TakeLocked() {
  if (items_.empty()) return std::nullopt;
  Item item = std::move(items_.front());
  items_.pop_front();
  return item;
}

std::optional<Call::Item> Call::Next() {
  std::unique_lock<std::mutex> lock(mutex_);
  arrived_.wait(lock, [&] { return !items_.empty() || final_; });
  return TakeLocked();
}

std::optional<Call::Item> Call::Poll() {
  std::lock_guard<std::mutex> lock(mutex_);
  return TakeLocked();
}

bool Call::has_news() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return final_ || !items_.empty();
}

bool Call::ended() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return final_;
}

void Call::Notify(std::shared_ptr<CallMailbox> mailbox, uint64_t number) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (final_) return mailbox->Post(number);
  mailbox_ = std::move(mailbox);
  number_ = number;
}

void Call::Put(Item item) {
  std::lock_guard<std::mutex> lock(mutex_);
  final_ = item.final;
  items_.push_back(std::move(item));
  arrived_.notify_all();
  if (final_ && mailbox_) std::exchange(mailbox_, nullptr)->Post(number_);
}

}  // namespace pyinfer
