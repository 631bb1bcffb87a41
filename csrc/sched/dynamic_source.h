// SPDX-License-Identifier: Apache-2.0
// dynamic_source.h - the queue of a model without state between requests: by priority and arrival, batching or not.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "infer/answer_order.h"
#include "sched/batch_source.h"
#include "sched/policy.h"
#include "sched/request_queue.h"
#include "sched/slo_control.h"

namespace pyinfer {

class DynamicSource final : public BatchSource {
 public:
  // See MakeBatchSource.
  DynamicSource(std::shared_ptr<const ModelSpec> model, const Clock& clock, std::weak_ptr<ExecutionObserver> observer);

  size_t AddInstance() override;
  void RemoveInstance(size_t instance) override;
  void TakeTurn(Request& request) override;
  bool Push(RequestPtr request) override;
  bool Wake() override;
  bool Wait(size_t instance) override;
  void Nudge(size_t instance) override;
  Batch Take(size_t, TimeNs now) override;
  TimeNs RipeAt(size_t instance, TimeNs now) const override;
  void Reap() override;
  TimeNs Expire(TimeNs now) override;
  void Close() override;
  void FailAll(const Status& status) override;
  size_t size() const override;
  void NoteExecuted(int64_t rows, TimeNs picked, TimeNs now) noexcept override;
  std::optional<SloReport> Slo() const override;

 private:
  // All instances take from one queue; each sleeps for itself, so that a certain one can be woken.
  struct Waiter {
    std::condition_variable ripe;
    bool removed = false;
    bool nudged = false;
  };

  QueueView ViewLocked() const;
  Decision DecideLocked(const QueueView& view, TimeNs now) const;
  Decision DecideSloLocked(const QueueView& view, TimeNs now) const;
  // The first `count` requests of the view leave the queue; the view has the others.
  std::vector<RequestPtr> TakeLocked(QueueView& view, size_t count);
  // Requests that have left the queue without being taken; `late`: because of the time.
  void NoteGoneLocked(const std::vector<RequestPtr>& gone, bool late);
  // Makes room for what is kept of an instance.
  Waiter& WaiterLocked(size_t instance);
  // To be notified once the lock is free: the one that has waited longest; null where nobody waits.
  std::condition_variable* PickWaiterLocked();
  void NotifyAllLocked();

  const std::shared_ptr<const ModelSpec> model_;
  const Clock& clock_;
  const std::weak_ptr<ExecutionObserver> observer_;
  const std::shared_ptr<AnswerOrder> order_;  // null where answers need not leave in order

  mutable std::mutex mutex_;
  RequestQueue queue_;
  const std::unique_ptr<SloControl> slo_;  // null where the model has no latency SLO
  std::deque<Waiter> waiters_;             // by instance
  std::vector<Waiter*> waiting_;           // that were not notified yet, in the order in which they came
  bool more_follow_ = false;
  bool closed_ = false;
};

}  // namespace pyinfer
