// SPDX-License-Identifier: Apache-2.0
#include "sched/dynamic_source.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

#include "sched/queued.h"

namespace pyinfer {

DynamicSource::DynamicSource(std::shared_ptr<const ModelSpec> model, const Clock& clock,
                             std::weak_ptr<ExecutionObserver> observer)
    : model_(std::move(model)), clock_(clock), observer_(std::move(observer)) {}

bool DynamicSource::Push(RequestPtr request) {
  Status refusal;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) {
      refusal = StoppingStatus();
    } else if (model_->max_queue_size != 0 && queue_.size() >= model_->max_queue_size) {
      refusal = Status::Unavailable("Exceeds maximum queue size");
    } else {
      queue_.push_back(std::move(request));
      return true;
    }
  }
  request->Fail(FailureReason::kRejected, std::move(refusal));
  return false;
}

bool DynamicSource::Wake() {
  bool notify = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (queue_.empty()) return false;
    notify = waiting_ != 0;
  }
  if (notify) ripe_.notify_one();
  return true;
}

bool DynamicSource::Wait(size_t) {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    const Decision decision = DecideLocked(ViewLocked(), clock_.Now());
    if (decision.kind == Decision::Kind::kTake) return true;
    if (closed_) return false;
    ++waiting_;
    clock_.Wait(ripe_, lock, decision.until);
    --waiting_;
  }
}

QueueView DynamicSource::ViewLocked() const {
  QueueView view;
  if (queue_.empty()) return view;
  const int64_t limit = std::max<int64_t>(1, model_->batching.max_batch_size);
  const Request& first = *queue_.front();
  view.oldest = first.timeline.queued;
  int64_t rows = 0;
  for (const RequestPtr& request : queue_) {
    const int64_t added = std::max<int64_t>(1, request->batch_size);
    if (!view.rows.empty()) {
      view.saturated = rows + added > limit || !SameShapes(first, *request);
      if (view.saturated) break;
    }
    view.rows.push_back(added);
    rows += added;
    if (!model_->batching.dynamic) break;
    if (rows >= limit) {
      view.saturated = true;
      break;
    }
  }
  return view;
}

Decision DynamicSource::DecideLocked(const QueueView& view, TimeNs now) const {
  const Decision decision = Decide(view, now, model_->batching);
  // A closed queue has nothing to wait for: what is left goes as it is.
  if (decision.kind == Decision::Kind::kWaitUntil && closed_) return Decision::Take(view.rows.size());
  return decision;
}

bool DynamicSource::RemoveCancelledLocked(size_t count, std::vector<RequestPtr>& removed) {
  const auto cancelled = [](const RequestPtr& request) { return request->cancelled(); };
  const auto end = queue_.begin() + static_cast<std::ptrdiff_t>(std::min(count, queue_.size()));
  // Looked at twice, so that the common case moves nothing; once cancelled, a request stays so.
  if (std::none_of(queue_.begin(), end, cancelled)) return false;
  const auto gone = std::stable_partition(queue_.begin(), end, std::not_fn(cancelled));
  std::move(gone, end, std::back_inserter(removed));
  queue_.erase(gone, end);
  return true;
}

Batch DynamicSource::Take(size_t, TimeNs now) {
  std::vector<RequestPtr> taken;
  std::vector<RequestPtr> cancelled;
  bool more = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (;;) {
      const QueueView view = ViewLocked();
      // The one behind the view counts as well: it may be what makes the view saturated.
      if (RemoveCancelledLocked(view.rows.size() + 1, cancelled)) continue;
      const Decision decision = DecideLocked(view, now);
      const auto end = queue_.begin() + static_cast<std::ptrdiff_t>(decision.requests);
      std::move(queue_.begin(), end, std::back_inserter(taken));
      queue_.erase(queue_.begin(), end);
      break;
    }
    more = !queue_.empty() && waiting_ != 0;
  }
  if (more) ripe_.notify_one();
  AnswerCancelled(cancelled);
  if (taken.empty()) return Batch();
  return Batch(std::move(taken), model_, observer_.lock(), clock_, now);
}

TimeNs DynamicSource::RipeAt(size_t, TimeNs now) const {
  std::lock_guard<std::mutex> lock(mutex_);
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
    RemoveCancelledLocked(queue_.size(), removed);
  }
  AnswerCancelled(removed);
}

void DynamicSource::Close() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
  }
  ripe_.notify_all();
}

void DynamicSource::FailAll(const Status& status) {
  std::deque<RequestPtr> left;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    left.swap(queue_);
  }
  ripe_.notify_all();
  for (RequestPtr& request : left) request->Fail(FailureReason::kRejected, status);
}

size_t DynamicSource::size() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return queue_.size();
}

}  // namespace pyinfer
