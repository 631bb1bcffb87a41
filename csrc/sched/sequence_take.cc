// SPDX-License-Identifier: Apache-2.0
// sequence_take.cc - how a SequenceSource forms batches.
#include <algorithm>
#include <iterator>
#include <utility>

#include "infer/answer_order.h"
#include "sched/queued.h"
#include "sched/sequence_controls.h"
#include "sched/sequence_source.h"

namespace pyinfer {
namespace {

// Takes the answer of a row that stands for no request.
class NobodySink final : public CompletionSink {
 public:
  void Send(const Request&, Response, bool) noexcept override {}
  bool cancelled() const noexcept override { return false; }
};

}  // namespace

SequenceSource::View SequenceSource::ViewLocked(const Instance& instance, TimeNs now) const {
  if (more_follow_ && !closed_) return {};
  return options_.strategy == SequenceOptions::Strategy::kDirect ? DirectLocked(instance, now)
                                                                 : OldestLocked(instance, now);
}

bool SequenceSource::FitLocked(const Sequence& a, const Sequence& b) const {
  if (&a == &b || !model_->has_batch_dimension()) return true;
  const Request& first = *a.requests.front();
  const Request& second = *b.requests.front();
  if (!SameShapes(first, second)) return false;
  if (!states_differ_in_shape_) return true;
  const auto state = [&](const Sequence& sequence, const Request& request) -> const SequenceState& {
    return (request.flags & kSequenceStart) != 0 ? *initial_ : *sequence.state;
  };
  return state(a, first).SameShapes(state(b, second));
}

SequenceSource::View SequenceSource::DirectLocked(const Instance& instance, TimeNs now) const {
  View view;
  TimeNs oldest = 0;
  const Sequence* first = nullptr;
  for (size_t slot = 0; slot < instance.slots.size(); ++slot) {
    if (!instance.slots[slot] || instance.slots[slot]->requests.empty()) continue;
    const Sequence& sequence = *instance.slots[slot];
    if (first == nullptr) first = &sequence;
    if (!FitLocked(*first, sequence)) continue;
    view.slots.push_back(slot);
    const TimeNs queued = sequence.requests.front()->timeline.queued;
    if (oldest == 0 || queued < oldest) oldest = queued;
  }
  if (view.slots.empty()) return view;
  const double share = static_cast<double>(view.slots.size()) / static_cast<double>(instance.slots.size());
  const TimeNs due = oldest + model_->batching.max_queue_delay_ns;
  const bool wait = options_.minimum_slot_utilization > 0 && share < options_.minimum_slot_utilization && now < due;
  view.decision = wait && !closed_ ? Decision::WaitUntil(due) : Decision::Take(view.slots.size());
  return view;
}

SequenceSource::View SequenceSource::OldestLocked(const Instance& instance, TimeNs now) const {
  View view;
  const auto front = [&](size_t slot) -> const Request& { return *instance.slots[slot]->requests.front(); };
  std::vector<size_t> candidates;
  for (size_t slot = 0; slot < instance.slots.size(); ++slot) {
    if (instance.slots[slot] && !instance.slots[slot]->requests.empty()) candidates.push_back(slot);
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [&](size_t a, size_t b) { return front(a).timeline.queued < front(b).timeline.queued; });
  if (candidates.empty()) return view;
  const auto limit = static_cast<size_t>(std::max<int64_t>(1, model_->batching.max_batch_size));
  QueueView queue;
  queue.oldest = front(candidates.front()).timeline.queued;
  for (const size_t slot : candidates) {
    queue.saturated =
        view.slots.size() == limit || !FitLocked(*instance.slots[candidates.front()], *instance.slots[slot]);
    if (queue.saturated) break;
    view.slots.push_back(slot);
    queue.rows.push_back(1);
  }
  queue.saturated = queue.saturated || view.slots.size() == limit;
  view.decision = Decide(queue, now, model_->batching);
  if (view.decision.kind == Decision::Kind::kWaitUntil && closed_) view.decision = Decision::Take(view.slots.size());
  return view;
}

// Cancelling one request gives its whole sequence up.
void SequenceSource::RemoveCancelledLocked(std::vector<RequestPtr>& removed) {
  const auto cancelled = [](const RequestPtr& request) { return request->cancelled(); };
  const auto give_up = [&](SequencePtr& sequence) {
    if (!sequence || sequence->taken || std::none_of(sequence->requests.begin(), sequence->requests.end(), cancelled))
      return false;
    EndLocked(*sequence);
    std::move(sequence->requests.begin(), sequence->requests.end(), std::back_inserter(removed));
    sequence.reset();
    return true;
  };
  for (const auto& instance : instances_) {
    for (SequencePtr& slot : instance->slots) give_up(slot);
  }
  backlog_.erase(std::remove_if(backlog_.begin(), backlog_.end(), give_up), backlog_.end());
  if (removed.empty()) return;
  FillFreeSlotsLocked();
  NotifyAllLocked();  // an instance that is removed may have lost what it waited for
}

void SequenceSource::TakeRowLocked(const Instance& instance, SequencePtr& slot, Rows& rows) const {
  Sequence& sequence = *slot;
  rows.requests.push_back(std::move(sequence.requests.front()));
  sequence.requests.pop_front();
  Request& taken = *rows.requests.back();
  if (instance.order && !taken.order) {  // one that comes back has its turn
    taken.order = instance.order;
    taken.turn = taken.order->Take();
  }
  if (initial_) {
    const bool start = (rows.requests.back()->flags & kSequenceStart) != 0;
    if (start) sequence.state = std::make_shared<SequenceState>(*model_);
    rows.states.push_back(sequence.state);
  }
  sequence.taken = options_.iterative;
  if (sequence.over && sequence.requests.empty() && !sequence.taken) slot.reset();
}

SequenceSource::Rows SequenceSource::TakeRowsLocked(Instance& instance, const View& view) {
  Rows rows;
  if (options_.strategy == SequenceOptions::Strategy::kOldest) {
    for (size_t i = 0; i < view.decision.requests; ++i) TakeRowLocked(instance, instance.slots[view.slots[i]], rows);
  } else {
    for (size_t i = 0, slot = 0; i < view.slots.size(); ++slot) {
      if (slot == view.slots[i]) {
        TakeRowLocked(instance, instance.slots[slot], rows);
        ++i;
        continue;
      }
      rows.requests.push_back(nullptr);
      if (initial_) rows.states.push_back(nullptr);
    }
  }
  if (!initial_) return rows;
  for (const std::weak_ptr<SequenceState>& last : instance.last_states) {
    SequenceStatePtr state = last.lock();
    const bool taken = std::find(rows.states.begin(), rows.states.end(), state) != rows.states.end();
    if (state && !taken) rows.others.push_back(std::move(state));
  }
  instance.last_states.assign(rows.states.begin(), rows.states.end());
  return rows;
}

Batch SequenceSource::Take(size_t instance, TimeNs now) {
  Rows rows;
  std::vector<RequestPtr> cancelled;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ExpireLocked(now);
    RemoveCancelledLocked(cancelled);
    Instance& taker = *instances_.at(instance);
    const View view = ViewLocked(taker, now);
    if (view.decision.kind == Decision::Kind::kTake) rows = TakeRowsLocked(taker, view);
    FillFreeSlotsLocked();
  }
  AnswerCancelled(cancelled);
  if (rows.requests.empty()) return Batch();
  CompleteRows(rows);
  return Batch(std::move(rows.requests), model_, observer_.lock(), clock_, now, std::move(rows.states));
}

void SequenceSource::CompleteRows(Rows& rows) const {
  for (const SequenceStatePtr& state : rows.others) state->Compact();
  const auto real = static_cast<size_t>(
      std::find_if(rows.requests.begin(), rows.requests.end(), [](const RequestPtr& row) { return row != nullptr; }) -
      rows.requests.begin());
  // The copies are made before anything is added to what they are copies of.
  for (RequestPtr& row : rows.requests) {
    if (!row) row = EmptyRow(*rows.requests[real]);
  }
  for (size_t i = 0; i < rows.requests.size(); ++i) {
    Request& row = *rows.requests[i];
    AddSequenceControls(row, !row.correlation_id.none());
    if (rows.states.empty()) continue;
    std::vector<Tensor> states = rows.states[rows.states[i] ? i : real]->Inputs();
    std::move(states.begin(), states.end(), std::back_inserter(row.inputs));
  }
}

RequestPtr SequenceSource::EmptyRow(const Request& like) const {
  auto row = std::make_unique<Request>(std::make_shared<NobodySink>());
  row->model_name = like.model_name;
  row->model_version = like.model_version;
  row->model = model_;
  row->inputs = like.inputs;
  row->timeline = like.timeline;
  return row;
}

}  // namespace pyinfer
