// SPDX-License-Identifier: Apache-2.0
#include "infer/answer_order.h"

namespace pyinfer {

uint64_t AnswerOrder::Take() {
  std::lock_guard<std::mutex> lock(mutex_);
  return taken_++;
}

void AnswerOrder::Send(Request& request, Response response) noexcept {
  std::unique_lock<std::mutex> lock(mutex_);
  Turn& turn = held_[request.turn];
  turn.request = &request;
  turn.responses.push_back(std::move(response));
  DeliverDue(lock);
}

void AnswerOrder::Deliver(RequestPtr request, Response response) noexcept {
  std::unique_lock<std::mutex> lock(mutex_);
  Turn& turn = held_[request->turn];
  turn.answered = std::move(request);
  turn.last = std::move(response);
  DeliverDue(lock);
}

void AnswerOrder::Abandon(RequestPtr request, Response response) noexcept {
  std::unique_lock<std::mutex> lock(mutex_);
  const uint64_t turn = request->turn;
  if (sending_ && turn == next_) {
    Turn& due = held_[turn];
    due.responses.clear();
    due.answered = std::move(request);
    due.last = std::move(response);
    return;
  }
  held_.erase(turn);
  lock.unlock();
  request->Answer(std::move(response));  // which skips its turn
}

void AnswerOrder::Skip(uint64_t turn) noexcept {
  std::unique_lock<std::mutex> lock(mutex_);
  skipped_.insert(turn);
  DeliverDue(lock);
}

void AnswerOrder::DeliverDue(std::unique_lock<std::mutex>& lock) noexcept {
  if (delivering_) return;
  delivering_ = true;
  for (;;) {
    if (skipped_.erase(next_) != 0) {
      ++next_;
      continue;
    }
    const auto due = held_.find(next_);
    if (due == held_.end()) break;
    Turn& turn = due->second;
    if (!turn.responses.empty()) {
      Response response = std::move(turn.responses.front());
      turn.responses.pop_front();
      Request& request = *turn.request;
      sending_ = true;
      lock.unlock();
      request.Send(std::move(response));
      lock.lock();
      sending_ = false;
      continue;
    }
    if (!turn.answered) break;  // there is more to come
    RequestPtr request = std::move(turn.answered);
    Response last = std::move(turn.last);
    held_.erase(due);
    request->order.reset();  // its turn ends here, and not when it is answered
    ++next_;
    lock.unlock();
    request->Answer(std::move(last));
    request.reset();
    lock.lock();
  }
  delivering_ = false;
}

size_t AnswerOrder::size() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return held_.size();
}

}  // namespace pyinfer
