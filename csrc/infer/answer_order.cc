// SPDX-License-Identifier: Apache-2.0
#include "infer/answer_order.h"

namespace pyinfer {

uint64_t AnswerOrder::Take() {
  std::lock_guard<std::mutex> lock(mutex_);
  return taken_++;
}

void AnswerOrder::Deliver(RequestPtr request, Response response) noexcept {
  std::unique_lock<std::mutex> lock(mutex_);
  const uint64_t turn = request->turn;
  held_.emplace(turn, Held(std::move(request), std::move(response)));
  DeliverDue(lock);
}

void AnswerOrder::Skip(uint64_t turn) noexcept {
  std::unique_lock<std::mutex> lock(mutex_);
  skipped_.insert(turn);
  DeliverDue(lock);
}

void AnswerOrder::DeliverDue(std::unique_lock<std::mutex>& lock) noexcept {
  if (delivering_) return;
  delivering_ = true;
  for (;; ++next_) {
    if (skipped_.erase(next_) != 0) continue;
    const auto due = held_.find(next_);
    if (due == held_.end()) break;
    Held held = std::move(due->second);
    held_.erase(due);
    held.first->order.reset();  // its turn ends here, and not when it is answered
    lock.unlock();
    held.first->Answer(std::move(held.second));
    held.first.reset();
    lock.lock();
  }
  delivering_ = false;
}

size_t AnswerOrder::size() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return held_.size();
}

}  // namespace pyinfer
