// SPDX-License-Identifier: Apache-2.0
#include "sched/dynamic_source.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "sched/queued.h"

namespace pyinfer {

DynamicSource::DynamicSource(std::shared_ptr<const ModelSpec> model, const Clock& clock,
                             std::weak_ptr<ExecutionObserver> observer)
    : model_(std::move(model)),
      clock_(clock),
      observer_(std::move(observer)),
      order_(model_->batching.preserve_ordering ? std::make_shared<AnswerOrder>() : nullptr),
      queue_(model_->queue),
      slo_(model_->queue.latency_slo_ns != 0 ? std::make_unique<SloControl>(model_) : nullptr) {}

size_t DynamicSource::AddInstance() {
  std::lock_guard<std::mutex> lock(mutex_);
  waiters_.emplace_back();
  if (slo_) slo_->AddInstance();
  return waiters_.size() - 1;
}

void DynamicSource::RemoveInstance(size_t instance) {
  // Notified under the lock, so that no instance is between looking at its mark and waiting.
  std::lock_guard<std::mutex> lock(mutex_);
  Waiter& waiter = waiters_.at(instance);
  if (slo_ && !waiter.removed) slo_->RemoveInstance();
  waiter.removed = true;
  waiter.ripe.notify_all();
}

void DynamicSource::TakeTurn(Request& request) {
  if (!order_ || request.order) return;
  request.order = order_;
  request.turn = order_->Take();
}

bool DynamicSource::Push(RequestPtr request) {
  Status refusal;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) {
      refusal = StoppingStatus();
    } else {
      TakeTurn(*request);
      const int64_t rows = slo_ ? SloControl::Rows(*request) : 0;
      more_follow_ = request->more_follow;
      if (slo_) refusal = slo_->Admit(*request, queue_.size());
      if (refusal.ok()) refusal = queue_.Push(request);
      if (refusal.ok() && slo_) slo_->NotePushed(rows);
      if (refusal.ok()) return true;
    }
  }
  request->Fail(FailureReason::kRejected, std::move(refusal));
  return false;
}

DynamicSource::Waiter& DynamicSource::WaiterLocked(size_t instance) {
  while (waiters_.size() <= instance) waiters_.emplace_back();
  return waiters_[instance];
}

std::condition_variable* DynamicSource::PickWaiterLocked() {
  if (waiting_.empty()) return nullptr;
  Waiter* const first = waiting_.front();
  waiting_.erase(waiting_.begin());
  return &first->ripe;
}

void DynamicSource::NotifyAllLocked() {
  for (Waiter& waiter : waiters_) waiter.ripe.notify_all();
}

bool DynamicSource::Wake() {
  std::condition_variable* next = nullptr;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    more_follow_ = false;
    if (queue_.empty()) return false;
    next = PickWaiterLocked();
  }
  if (next != nullptr) next->notify_all();
  return true;
}

void DynamicSource::Nudge(size_t instance) {
  std::condition_variable* ripe = nullptr;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    Waiter& waiter = WaiterLocked(instance);
    waiter.nudged = true;
    ripe = &waiter.ripe;
  }
  ripe->notify_all();
}

bool DynamicSource::Wait(size_t instance) {
  std::unique_lock<std::mutex> lock(mutex_);
  Waiter& waiter = WaiterLocked(instance);
  for (;;) {
    if (waiter.removed) {
      // The wake-up that ended the wait may have been for a request: another instance has to take it.
      std::condition_variable* const next = queue_.empty() ? nullptr : PickWaiterLocked();
      lock.unlock();
      if (next != nullptr) next->notify_all();
      return false;
    }
    if (std::exchange(waiter.nudged, false)) return true;
    const Decision decision = DecideLocked(ViewLocked(), clock_.Now());
    if (decision.kind == Decision::Kind::kTake) return true;
    if (closed_) return false;
    waiting_.push_back(&waiter);
    clock_.Wait(waiter.ripe, lock, decision.until);
    if (const auto kept = std::find(waiting_.begin(), waiting_.end(), &waiter); kept != waiting_.end()) {
      waiting_.erase(kept);
    }
  }
}

QueueView DynamicSource::ViewLocked() const {
  QueueView view;
  const int64_t limit = std::max<int64_t>(1, model_->batching.max_batch_size);
  const bool pads = model_->padding.has_value();
  const size_t window = pads ? model_->padding->window : SIZE_MAX;
  const Request* first = nullptr;
  int64_t rows = 0;
  int64_t passed = 0;  // rows of requests that were passed over
  queue_.ForEach([&](const Request& request) {
    const int64_t added = std::max<int64_t>(1, request.batch_size);
    if (++view.looked_at > window) {
      view.saturated = true;  // whoever comes would not be seen
      return false;
    }
    if (first == nullptr) {
      first = &request;
      view.oldest = request.timeline.queued;
    } else if (pads && !SameShapes(*first, request)) {
      passed += added;
      view.saturated = passed >= limit;  // nobody is to wait where others fill a batch
      return true;
    } else {
      view.saturated = rows + added > limit || (!pads && !SameShapes(*first, request));
      if (view.saturated) return false;
      view.oldest = std::min(view.oldest, request.timeline.queued);
    }
    view.rows.push_back(added);
    if (pads) view.places.push_back(view.looked_at - 1);
    rows += added;
    view.saturated = rows >= limit || passed >= limit;
    return model_->batching.dynamic && rows < limit;
  });
  if (!model_->batching.dynamic) view.saturated = false;
  return view;
}

Decision DynamicSource::DecideLocked(const QueueView& view, TimeNs now) const {
  if (more_follow_ && !closed_) return {};
  const Decision decision = slo_ ? DecideSloLocked(view, now) : Decide(view, now, model_->batching);
  // A closed queue has nothing to wait for: what is left goes as it is.
  if (decision.kind == Decision::Kind::kWaitUntil && closed_) return Decision::Take(view.rows.size());
  return decision;
}

Decision DynamicSource::DecideSloLocked(const QueueView& view, TimeNs now) const {
  if (view.rows.empty()) return {};
  SloView first;
  first.saturated = view.saturated;
  size_t place = 0;
  queue_.ForEach([&](const Request& request) {
    if (view.places.empty() || view.places[first.first.size()] == place) {
      first.first.push_back({SloControl::Rows(request), QueueDeadline(model_->queue, request)});
    }
    ++place;
    return first.first.size() < view.rows.size();
  });
  const SloDecision decision = slo_->Decide(std::move(first), now);
  return decision.take == 0 ? Decision::WaitUntil(decision.until) : Decision::Take(decision.take, decision.drop);
}

std::vector<RequestPtr> DynamicSource::TakeLocked(QueueView& view, size_t count) {
  if (!model_->padding) return queue_.TakeFirst(count);
  std::vector<RequestPtr> taken = queue_.TakeAt(view.places, count);
  view.places.erase(view.places.begin(), view.places.begin() + static_cast<std::ptrdiff_t>(count));
  for (size_t& place : view.places) place -= count;
  return taken;
}

void DynamicSource::NoteGoneLocked(const std::vector<RequestPtr>& gone, bool late) {
  if (slo_) slo_->NoteGone(gone, late);
}

Batch DynamicSource::Take(size_t, TimeNs now) {
  std::vector<RequestPtr> taken;
  std::vector<RequestPtr> cancelled;
  std::vector<RequestPtr> expired;
  std::condition_variable* next = nullptr;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.Expire(now, expired);
    for (;;) {
      QueueView view = ViewLocked();
      // Those that can not be added count as well: they may be what makes the view saturated.
      if (queue_.RemoveCancelled(view.looked_at, cancelled)) continue;
      const Decision decision = DecideLocked(view, now);
      if (decision.drop != 0) {
        for (RequestPtr& late : TakeLocked(view, decision.drop)) expired.push_back(std::move(late));
      }
      taken = TakeLocked(view, decision.requests);
      break;
    }
    NoteGoneLocked(expired, true);
    NoteGoneLocked(cancelled, false);
    if (slo_) slo_->NoteTaken(taken, now);
    if (!queue_.empty()) next = PickWaiterLocked();
  }
  if (next != nullptr) next->notify_all();
  AnswerCancelled(cancelled);
  AnswerExpired(expired);
  if (taken.empty()) return Batch();
  return Batch(std::move(taken), model_, observer_.lock(), clock_, now);
}

TimeNs DynamicSource::RipeAt(size_t instance, TimeNs now) const {
  std::lock_guard<std::mutex> lock(mutex_);
  if (instance < waiters_.size() && waiters_[instance].removed) return -1;
  const Decision decision = DecideLocked(ViewLocked(), now);
  switch (decision.kind) {
    case Decision::Kind::kTake:
      return now;
    case Decision::Kind::kWaitUntil:
      return decision.until;
    case Decision::Kind::kIdle:
      break;
  }
  return -1;
}

void DynamicSource::Reap() {
  std::vector<RequestPtr> removed;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.RemoveCancelled(queue_.size(), removed);
    NoteGoneLocked(removed, false);
  }
  AnswerCancelled(removed);
}

TimeNs DynamicSource::Expire(TimeNs now) {
  std::vector<RequestPtr> expired;
  TimeNs next = 0;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.Expire(now, expired);
    NoteGoneLocked(expired, true);
    next = queue_.next_deadline();
  }
  AnswerExpired(expired);
  return next;
}

void DynamicSource::Close() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    NotifyAllLocked();
  }
}

void DynamicSource::FailAll(const Status& status) {
  std::vector<RequestPtr> left;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    left = queue_.TakeAll();
    NoteGoneLocked(left, false);
    NotifyAllLocked();
  }
  for (RequestPtr& request : left) request->Fail(FailureReason::kRejected, status);
}

void DynamicSource::NoteExecuted(int64_t rows, TimeNs picked, TimeNs now) noexcept {
  if (!slo_) return;
  std::lock_guard<std::mutex> lock(mutex_);
  slo_->NoteExecuted(rows, picked, now);
}

std::optional<SloReport> DynamicSource::Slo() const {
  if (!slo_) return std::nullopt;
  std::lock_guard<std::mutex> lock(mutex_);
  return slo_->Report();
}

size_t DynamicSource::size() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return queue_.size();
}

}  // namespace pyinfer
