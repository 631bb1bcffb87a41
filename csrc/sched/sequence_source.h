// SPDX-License-Identifier: Apache-2.0
// sequence_source.h - the queue of a model that keeps state between the requests of a sequence.
//
// A sequence begins with a request that has the START flag. It gets a slot of one instance and keeps it until its END
// request was taken, it was cancelled, or it had no new request for max_idle; meanwhile its requests run at that
// instance, in order, one at a time. Where no slot is free, sequences wait in a backlog, in order of their beginning,
// and keep collecting requests; one that waits for longer than one of its requests may is given up.
//
// Strategy direct: row i of a batch is slot i. A slot without a request, below the last one that has one, gets a row
// whose READY is false, a copy of another request that nobody is answered for.
// Strategy oldest: the slots' next requests are batched like those of a DynamicSource, oldest first. With
// preserve_ordering the answers of an instance leave in the order of its batches and of the rows in them, also those
// that are given after their batch.
//
// Of an iterative model, each request is a sequence: it keeps its slot while it comes back to be executed again.
//
// Source of the rules: Triton's sequence batcher.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "sched/batch_source.h"
#include "sched/policy.h"
#include "sched/sequence_state.h"

namespace pyinfer {

class SequenceSource final : public BatchSource {
 public:
  // Requires: model->sequence. See MakeBatchSource for the rest.
  SequenceSource(std::shared_ptr<const ModelSpec> model, const Clock& clock, std::weak_ptr<ExecutionObserver> observer);

  size_t AddInstance() override;
  // Its sequences go on to their end; it gets no further ones.
  void RemoveInstance(size_t instance) override;
  bool Push(RequestPtr request) override;
  bool Wake() override;
  bool Wait(size_t instance) override;
  Batch Take(size_t instance, TimeNs now) override;
  TimeNs RipeAt(size_t instance, TimeNs now) const override;
  void Return(RequestPtr request) override;
  void Release(const CorrelationId& id) override;
  void Reap() override;
  // Of a sequence in the backlog the time is over with that of any of its requests.
  TimeNs Expire(TimeNs now) override;
  void Close() override;
  void FailAll(const Status& status) override;
  size_t size() const override;

 private:
  struct Sequence {
    CorrelationId id;
    std::deque<RequestPtr> requests;
    SequenceStatePtr state;  // null where the model has none, or before the first request is taken
    TimeNs touched = 0;      // when the last request came
    TimeNs deadline = 0;     // the first one of its requests, which counts in the backlog; 0: none
    bool over = false;       // no further request will come: the END is here, or the sequence was given up
    bool taken = false;      // iterative: its request is being executed
  };
  using SequencePtr = std::unique_ptr<Sequence>;

  struct Instance {
    std::vector<SequencePtr> slots;                         // nullptr: free
    std::vector<std::weak_ptr<SequenceState>> last_states;  // of the batch before: parts of the same buffers
    std::condition_variable ripe;
    std::shared_ptr<AnswerOrder> order;  // null where answers need not leave in order
    bool waiting = false;
    bool removed = false;
  };

  struct ById {
    bool operator()(const CorrelationId& a, const CorrelationId& b) const {
      return a.number != b.number ? a.number < b.number : a.text < b.text;
    }
  };

  // The requests of one instance that may form a batch, and what the policy says of them.
  struct View {
    std::vector<size_t> slots;  // in the order of the batch's rows; direct: ascending
    Decision decision;
  };

  // A batch in the making; a row without a request is nobody's.
  struct Rows {
    std::vector<RequestPtr> requests;
    std::vector<SequenceStatePtr> states;  // as requests, or empty
    std::vector<SequenceStatePtr> others;  // of the batch before, and not in this one
  };

  // Gives a request that belongs to no sequence one of its own.
  Status BeginIteration(Request& request);
  Status CheckRequest(const Request& request) const;
  Status PlaceLocked(RequestPtr& request, TimeNs now);
  // A free slot: of the lowest number, at the first instance that has it.
  SequencePtr* FreeSlotLocked();
  void FillFreeSlotsLocked();
  // Forgets the sequences that have been idle for too long, where that makes room or matters for `id`.
  void ExpireLocked(TimeNs now);
  TimeNs NextExpiryLocked() const;
  void EndLocked(Sequence& sequence);

  View ViewLocked(const Instance& instance, TimeNs now) const;
  View DirectLocked(const Instance& instance, TimeNs now) const;
  View OldestLocked(const Instance& instance, TimeNs now) const;
  void RemoveCancelledLocked(std::vector<RequestPtr>& removed);
  // May the first requests of these run in one batch?
  bool FitLocked(const Sequence& a, const Sequence& b) const;
  void TakeRowLocked(const Instance& instance, SequencePtr& slot, Rows& rows) const;
  Rows TakeRowsLocked(Instance& instance, const View& view);
  // Fills the rows that are nobody's, and adds controls and states.
  void CompleteRows(Rows& rows) const;
  RequestPtr EmptyRow(const Request& like) const;
  void NotifyAllLocked();

  const std::shared_ptr<const ModelSpec> model_;
  const SequenceOptions& options_;
  const Clock& clock_;
  const std::weak_ptr<ExecutionObserver> observer_;
  const SequenceStatePtr initial_;     // null where the model has no states
  const bool states_differ_in_shape_;  // some dimension of a state is variable

  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Instance>> instances_;
  std::map<CorrelationId, Sequence*, ById> live_;  // those that are not over
  std::deque<SequencePtr> backlog_;
  std::atomic<uint64_t> iterations_{0};  // begun so far
  bool more_follow_ = false;
  bool closed_ = false;
};

}  // namespace pyinfer
