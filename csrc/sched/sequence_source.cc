// SPDX-License-Identifier: Apache-2.0
#include "sched/sequence_source.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

#include "sched/queued.h"
#include "sched/sequence_controls.h"

namespace pyinfer {
namespace {

// Takes the answer of a row that stands for no request.
class NobodySink final : public CompletionSink {
 public:
  void Send(const Request&, Response, bool) noexcept override {}
  bool cancelled() const noexcept override { return false; }
};

std::string IdText(const CorrelationId& id) { return id.text.empty() ? std::to_string(id.number) : id.text; }

}  // namespace

SequenceSource::SequenceSource(std::shared_ptr<const ModelSpec> model, const Clock& clock,
                               std::weak_ptr<ExecutionObserver> observer)
    : model_(std::move(model)), options_(*model_->sequence), clock_(clock), observer_(std::move(observer)) {}

size_t SequenceSource::AddInstance() {
  std::lock_guard<std::mutex> lock(mutex_);
  instances_.push_back(std::make_unique<Instance>());
  instances_.back()->slots.resize(std::max<size_t>(1, options_.slots));
  FillFreeSlotsLocked();
  return instances_.size() - 1;
}

void SequenceSource::RemoveInstance(size_t instance) {
  std::lock_guard<std::mutex> lock(mutex_);
  instances_.at(instance)->removed = true;
  NotifyAllLocked();
}

// --- arrival ---

Status SequenceSource::CheckRequest(const Request& request) const {
  const std::string of_model = "inference request to model '" + model_->name + "' must specify ";
  if (request.batch_size > 1) {
    return Status::InvalidArg(of_model + "batch-size 1 due to requirements of sequence batcher");
  }
  const CorrelationId& id = request.correlation_id;
  if (id.none()) return Status::InvalidArg(of_model + "a non-zero or non-empty correlation ID");
  for (const SequenceControl& control : options_.controls) {
    if (control.kind != SequenceControl::Kind::kCorrelationId) continue;
    if ((control.dtype == DType::kBytes) == !id.text.empty()) continue;
    return Status::InvalidArg("model '" + model_->name + "' expects a correlation ID of type " +
                              std::string(DTypeName(control.dtype)) + ", got " +
                              (id.text.empty() ? "an integer" : "a string"));
  }
  return Status();
}

bool SequenceSource::Push(RequestPtr request) {
  Status refusal = CheckRequest(*request);
  FailureReason reason = FailureReason::kOther;
  if (refusal.ok()) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) {
      refusal = StoppingStatus();
      reason = FailureReason::kRejected;
    } else {
      refusal = PlaceLocked(request, request->timeline.queued);
      if (refusal.ok()) return true;
    }
  }
  request->Fail(reason, std::move(refusal));
  return false;
}

Status SequenceSource::PlaceLocked(RequestPtr& request, TimeNs now) {
  ExpireLocked(now);
  const CorrelationId& id = request->correlation_id;
  const auto found = live_.find(id);
  Sequence* sequence = found == live_.end() ? nullptr : found->second;
  if (sequence == nullptr) {
    if ((request->flags & kSequenceStart) == 0) {
      return Status::InvalidArg("inference request for sequence " + IdText(id) + " to model '" + model_->name +
                                "' must specify the START flag on the first request of the sequence");
    }
    auto begun = std::make_unique<Sequence>();
    sequence = begun.get();
    sequence->id = id;
    live_[id] = sequence;
    SequencePtr* slot = FreeSlotLocked();
    if (slot != nullptr) {
      *slot = std::move(begun);
    } else {
      backlog_.push_back(std::move(begun));
    }
  }
  // A START amid a sequence begins it anew, in the same place.
  sequence->touched = now;
  const bool end = (request->flags & kSequenceEnd) != 0;
  const TimeNs deadline = request->queue_deadline;
  if (deadline != 0 && (sequence->deadline == 0 || deadline < sequence->deadline)) sequence->deadline = deadline;
  sequence->requests.push_back(std::move(request));
  if (end) EndLocked(*sequence);
  return Status();
}

void SequenceSource::EndLocked(Sequence& sequence) {
  if (std::exchange(sequence.over, true)) return;
  live_.erase(sequence.id);
}

SequenceSource::SequencePtr* SequenceSource::FreeSlotLocked() {
  const size_t slots = instances_.empty() ? 0 : instances_.front()->slots.size();
  for (size_t slot = 0; slot < slots; ++slot) {
    for (const auto& instance : instances_) {
      if (!instance->removed && !instance->slots[slot]) return &instance->slots[slot];
    }
  }
  return nullptr;
}

void SequenceSource::FillFreeSlotsLocked() {
  bool filled = false;
  while (!backlog_.empty()) {
    SequencePtr* slot = FreeSlotLocked();
    if (slot == nullptr) break;
    *slot = std::move(backlog_.front());
    // It was not idle while it waited for a place.
    (*slot)->touched = clock_.Now();
    backlog_.pop_front();
    filled = true;
  }
  if (filled) NotifyAllLocked();
}

void SequenceSource::ExpireLocked(TimeNs now) {
  bool freed = false;
  for (const auto& instance : instances_) {
    for (SequencePtr& slot : instance->slots) {
      // A sequence whose requests wait is not idle: it is the instance that is late.
      if (!slot || !slot->requests.empty() || now - slot->touched < options_.max_idle_ns) continue;
      EndLocked(*slot);
      slot.reset();
      freed = true;
    }
  }
  if (freed) FillFreeSlotsLocked();
}

TimeNs SequenceSource::NextExpiryLocked() const {
  TimeNs next = 0;
  for (const auto& instance : instances_) {
    for (const SequencePtr& slot : instance->slots) {
      if (!slot || !slot->requests.empty()) continue;
      const TimeNs due = slot->touched + options_.max_idle_ns;
      if (next == 0 || due < next) next = due;
    }
  }
  return next;
}

// --- departure ---

SequenceSource::View SequenceSource::ViewLocked(const Instance& instance, TimeNs now) const {
  return options_.strategy == SequenceOptions::Strategy::kDirect ? DirectLocked(instance, now)
                                                                 : OldestLocked(instance, now);
}

SequenceSource::View SequenceSource::DirectLocked(const Instance& instance, TimeNs now) const {
  View view;
  TimeNs oldest = 0;
  const Request* first = nullptr;
  for (size_t slot = 0; slot < instance.slots.size(); ++slot) {
    if (!instance.slots[slot] || instance.slots[slot]->requests.empty()) continue;
    const Request& request = *instance.slots[slot]->requests.front();
    if (first == nullptr) first = &request;
    if (model_->has_batch_dimension() && !SameShapes(*first, request)) continue;
    view.slots.push_back(slot);
    if (oldest == 0 || request.timeline.queued < oldest) oldest = request.timeline.queued;
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
        view.slots.size() == limit || (!view.slots.empty() && !SameShapes(front(candidates.front()), front(slot)));
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
    if (!sequence || std::none_of(sequence->requests.begin(), sequence->requests.end(), cancelled)) return false;
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

std::vector<RequestPtr> SequenceSource::TakeRowsLocked(Instance& instance, const View& view) {
  std::vector<RequestPtr> rows;
  const auto take = [&](size_t slot) {
    Sequence& sequence = *instance.slots[slot];
    rows.push_back(std::move(sequence.requests.front()));
    sequence.requests.pop_front();
    if (sequence.over && sequence.requests.empty()) instance.slots[slot].reset();
  };
  if (options_.strategy == SequenceOptions::Strategy::kOldest) {
    for (size_t i = 0; i < view.decision.requests; ++i) take(view.slots[i]);
    return rows;
  }
  for (size_t i = 0, slot = 0; i < view.slots.size(); ++slot) {
    if (slot == view.slots[i]) {
      take(slot);
      ++i;
    } else {
      rows.push_back(nullptr);
    }
  }
  return rows;
}

Batch SequenceSource::Take(size_t instance, TimeNs now) {
  std::vector<RequestPtr> rows;
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
  if (rows.empty()) return Batch();
  const auto real = std::find_if(rows.begin(), rows.end(), [](const RequestPtr& row) { return row != nullptr; });
  // The copies are made before the controls are added to what they are copies of.
  for (RequestPtr& row : rows) {
    if (!row) row = EmptyRow(**real);
  }
  for (RequestPtr& row : rows) AddSequenceControls(*row, !row->correlation_id.none());
  return Batch(std::move(rows), model_, observer_.lock(), clock_, now);
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

// --- waiting ---

bool SequenceSource::Wake() {
  std::lock_guard<std::mutex> lock(mutex_);
  bool any = !backlog_.empty();
  for (const auto& instance : instances_) {
    const bool work = std::any_of(instance->slots.begin(), instance->slots.end(),
                                  [](const SequencePtr& slot) { return slot && !slot->requests.empty(); });
    any = any || work;
    if (work && instance->waiting) instance->ripe.notify_one();
  }
  return any;
}

bool SequenceSource::Wait(size_t instance) {
  std::unique_lock<std::mutex> lock(mutex_);
  Instance& waiter = *instances_.at(instance);
  for (;;) {
    const TimeNs now = clock_.Now();
    ExpireLocked(now);
    const View view = ViewLocked(waiter, now);
    if (view.decision.kind == Decision::Kind::kTake) return true;
    const bool empty = std::all_of(waiter.slots.begin(), waiter.slots.end(),
                                   [](const SequencePtr& slot) { return !slot || slot->requests.empty(); });
    if (closed_ && empty && backlog_.empty()) return false;
    if (waiter.removed && std::none_of(waiter.slots.begin(), waiter.slots.end(),
                                       [](const SequencePtr& slot) { return slot != nullptr; })) {
      return false;
    }
    // Only a backlog, or an end that depends on it, makes it matter when somebody's slot becomes free.
    const TimeNs expiry = backlog_.empty() && !waiter.removed ? 0 : NextExpiryLocked();
    TimeNs until = view.decision.kind == Decision::Kind::kWaitUntil ? view.decision.until : 0;
    if (expiry != 0 && (until == 0 || expiry < until)) until = expiry;
    waiter.waiting = true;
    clock_.Wait(waiter.ripe, lock, until);
    waiter.waiting = false;
  }
}

TimeNs SequenceSource::RipeAt(size_t instance, TimeNs now) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const View view = ViewLocked(*instances_.at(instance), now);
  switch (view.decision.kind) {
    case Decision::Kind::kTake:
      return now;
    case Decision::Kind::kWaitUntil:
      return view.decision.until;
    case Decision::Kind::kIdle:
      break;
  }
  const TimeNs expiry = backlog_.empty() ? 0 : NextExpiryLocked();
  return expiry == 0 ? -1 : expiry;
}

void SequenceSource::NotifyAllLocked() {
  for (const auto& instance : instances_) {
    if (instance->waiting) instance->ripe.notify_one();
  }
}

void SequenceSource::Reap() {
  std::vector<RequestPtr> removed;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    RemoveCancelledLocked(removed);
  }
  AnswerCancelled(removed);
}

void SequenceSource::Close() {
  std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  NotifyAllLocked();
}

void SequenceSource::FailAll(const Status& status) {
  std::vector<RequestPtr> left;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    const auto empty = [&](SequencePtr& sequence) {
      if (sequence) std::move(sequence->requests.begin(), sequence->requests.end(), std::back_inserter(left));
      sequence.reset();
    };
    for (const auto& instance : instances_) std::for_each(instance->slots.begin(), instance->slots.end(), empty);
    std::for_each(backlog_.begin(), backlog_.end(), empty);
    backlog_.clear();
    live_.clear();
    NotifyAllLocked();
  }
  for (RequestPtr& request : left) request->Fail(FailureReason::kRejected, status);
}

size_t SequenceSource::size() const {
  std::lock_guard<std::mutex> lock(mutex_);
  size_t count = 0;
  for (const auto& instance : instances_) {
    for (const SequencePtr& slot : instance->slots) count += slot ? slot->requests.size() : 0;
  }
  for (const SequencePtr& sequence : backlog_) count += sequence->requests.size();
  return count;
}

}  // namespace pyinfer
