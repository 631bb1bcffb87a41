// SPDX-License-Identifier: Apache-2.0
// batch_source.h - where an instance gets its next batch.
//
// An instance is a number that AddInstance gave out: a source may keep things for one instance that others must not
// take. A BatchSource holds the requests of one model version until its policy calls them ripe. It owns every request
// between Push() and Take(). All methods may be called from any thread; none blocks except Wait(). No sink is called
// with its lock held.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "base/status.h"
#include "infer/request.h"
#include "sched/batch.h"
#include "sched/slo_control.h"

namespace pyinfer {

class BatchSource {
 public:
  virtual ~BatchSource() = default;

  // The number of one more instance: 0, 1, ...
  virtual size_t AddInstance() = 0;
  // The instance begins nothing new: its Wait() returns false once the source keeps nothing for it.
  virtual void RemoveInstance(size_t instance) = 0;

  // Gives a request its turn among the answers, where they leave in order, before it is clear whether it will be
  // pushed; Push does so otherwise.
  virtual void TakeTurn(Request&) {}

  // Takes ownership. A refused request (queue full, closed, no part of a sequence) is answered through its own sink
  // before this returns false. Wakes nobody: Wake() does, once for a burst. Nothing is ripe between a request that
  // more_follow and the next one that none follow, or Wake().
  virtual bool Push(RequestPtr request) = 0;

  // Wakes an instance where there is something to look at. Returns false where the queue is empty.
  virtual bool Wake() = 0;

  // Blocks until a batch may be ripe for `instance` (a hint: another one may be first), or Nudge was called since the
  // last Wait; false once closed and empty, or removed.
  virtual bool Wait(size_t instance) = 0;

  // Ends the Wait of one instance, whatever is ripe. Only where instances keep nothing of their own.
  virtual void Nudge(size_t) {}

  // Removes the batch that is ripe for `instance` at `now`, possibly none.
  // Cancelled requests found on the way are answered, not returned.
  virtual Batch Take(size_t instance, TimeNs now) = 0;

  // When Take will return a batch if nothing more is pushed: `now` if it would do so at once, -1 if never, or if the
  // instance has nothing to begin any more.
  virtual TimeNs RipeAt(size_t instance, TimeNs now) const = 0;

  // Of an iterative model: a request that was taken comes back to be executed once more, or its sequence is done.
  virtual void Return(RequestPtr request) { request->Fail(FailureReason::kOther, Status::Internal("not iterative")); }
  virtual void Release(const CorrelationId&) {}

  // A batch of so many rows, that was taken at the first time, was over at the second.
  virtual void NoteExecuted(int64_t, TimeNs, TimeNs) noexcept {}
  // What is known of a model with a latency SLO; nothing of others.
  virtual std::optional<SloReport> Slo() const { return std::nullopt; }

  // Answers and removes the cancelled ones.
  virtual void Reap() = 0;

  // Answers and removes, or puts behind the others, those whose time in the queue is over at `now`.
  // Returns when it must be called next; 0 for never.
  virtual TimeNs Expire(TimeNs now) = 0;

  // No more pushes; waiting instances return once the queue is empty.
  virtual void Close() = 0;

  // Closes, and answers everything that is still queued with `status`.
  virtual void FailAll(const Status& status) = 0;

  // Requests waiting.
  virtual size_t size() const = 0;
};

// The source that `model` is configured for. `observer` is told of the executions of the batches taken from it, `clock`
// must outlive it and its batches.
std::unique_ptr<BatchSource> MakeBatchSource(std::shared_ptr<const ModelSpec> model, const Clock& clock,
                                             std::weak_ptr<ExecutionObserver> observer);

}  // namespace pyinfer
