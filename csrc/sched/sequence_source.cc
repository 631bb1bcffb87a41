// SPDX-License-Identifier: Apache-2.0
#include "sched/sequence_source.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <iterator>
#include <utility>

#include "infer/answer_order.h"
#include "sched/queued.h"

namespace pyinfer {
namespace {

// The ids of sequences that no client named begin here, also as texts; clients of an iterative model can not name them:
// theirs would be continued by requests of others.
constexpr uint64_t kFirstIteration = uint64_t{1} << 63;

bool IsOfIteration(const CorrelationId& id) {
  uint64_t number = id.number;
  if (!id.text.empty()) {
    const auto [end, error] = std::from_chars(id.text.data(), id.text.data() + id.text.size(), number);
    if (error != std::errc() || end != id.text.data() + id.text.size()) return false;
  }
  return number >= kFirstIteration;
}

bool HasVariableDims(const SequenceStateSpec& state) {
  return std::find(state.dims.begin(), state.dims.end(), -1) != state.dims.end();
}

std::string IdText(const CorrelationId& id) { return id.text.empty() ? std::to_string(id.number) : id.text; }

}  // namespace

SequenceSource::SequenceSource(std::shared_ptr<const ModelSpec> model, const Clock& clock,
                               std::weak_ptr<ExecutionObserver> observer)
    : model_(std::move(model)),
      options_(*model_->sequence),
      clock_(clock),
      observer_(std::move(observer)),
      initial_(options_.states.empty() ? nullptr : std::make_shared<SequenceState>(*model_)),
      states_differ_in_shape_(std::any_of(options_.states.begin(), options_.states.end(), HasVariableDims)) {}

size_t SequenceSource::AddInstance() {
  std::lock_guard<std::mutex> lock(mutex_);
  instances_.push_back(std::make_unique<Instance>());
  instances_.back()->slots.resize(std::max<size_t>(1, options_.slots));
  const bool ordered = options_.strategy == SequenceOptions::Strategy::kOldest && model_->batching.preserve_ordering;
  if (ordered) instances_.back()->order = std::make_shared<AnswerOrder>();
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
  // A request without rows has no place beside the controls and states of others, which have one.
  if (request.batch_size != 1) {
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

Status SequenceSource::BeginIteration(Request& request) {
  if (!request.correlation_id.none()) {
    if (!IsOfIteration(request.correlation_id)) return Status();
    return Status::InvalidArg("inference request to model '" + model_->name + "' must specify a correlation ID below " +
                              std::to_string(kFirstIteration) +
                              ": those from there on are given to requests that specify none");
  }
  const uint64_t number = kFirstIteration + iterations_.fetch_add(1, std::memory_order_relaxed);
  const auto& controls = options_.controls;
  const bool text = std::any_of(controls.begin(), controls.end(), [](const SequenceControl& control) {
    return control.kind == SequenceControl::Kind::kCorrelationId && control.dtype == DType::kBytes;
  });
  request.correlation_id = text ? CorrelationId{0, std::to_string(number)} : CorrelationId{number, {}};
  request.flags |= kSequenceStart;
  return Status();
}

bool SequenceSource::Push(RequestPtr request) {
  Status refusal = options_.iterative ? BeginIteration(*request) : Status();
  if (refusal.ok()) refusal = CheckRequest(*request);
  FailureReason reason = FailureReason::kOther;
  if (refusal.ok()) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) {
      refusal = StoppingStatus();
      reason = FailureReason::kRejected;
    } else {
      more_follow_ = request->more_follow;
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
  const TimeNs deadline = request->queue_deadline;
  if (deadline != 0 && (sequence->deadline == 0 || deadline < sequence->deadline)) sequence->deadline = deadline;
  // That of an iterative model ends when its executor says so.
  const bool end = (request->flags & kSequenceEnd) != 0 && !options_.iterative;
  sequence->requests.push_back(std::move(request));
  if (end) EndLocked(*sequence);
  return Status();
}

void SequenceSource::Return(RequestPtr request) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = live_.find(request->correlation_id);
    if (found != live_.end() && found->second->taken) {
      Sequence& sequence = *found->second;
      sequence.taken = false;
      sequence.touched = request->timeline.queued = clock_.Now();
      request->flags = 0;
      // What was added for the execution is added anew.
      const auto added = [&](const Tensor& input) { return model_->FindInput(input.name) == nullptr; };
      request->inputs.erase(std::remove_if(request->inputs.begin(), request->inputs.end(), added),
                            request->inputs.end());
      sequence.requests.push_front(std::move(request));
      return;
    }
  }
  GiveUp(std::move(request), FailureReason::kRejected, StoppingStatus());
}

void SequenceSource::Release(const CorrelationId& id) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = live_.find(id);
  if (found == live_.end() || !found->second->taken) return;
  Sequence* sequence = found->second;
  sequence->taken = false;
  if (!sequence->requests.empty()) return;  // its client has sent more for the same id
  EndLocked(*sequence);
  for (const auto& instance : instances_) {
    for (SequencePtr& slot : instance->slots) {
      if (slot.get() == sequence) slot.reset();
    }
  }
  FillFreeSlotsLocked();
  NotifyAllLocked();  // an instance that is removed may have lost what it waited for
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
      if (!slot || slot->taken || !slot->requests.empty() || now - slot->touched < options_.max_idle_ns) continue;
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
      if (!slot || slot->taken || !slot->requests.empty()) continue;
      const TimeNs due = slot->touched + options_.max_idle_ns;
      if (next == 0 || due < next) next = due;
    }
  }
  return next;
}

// --- waiting ---

bool SequenceSource::Wake() {
  std::lock_guard<std::mutex> lock(mutex_);
  more_follow_ = false;
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
  for (RequestPtr& request : left) GiveUp(std::move(request), FailureReason::kRejected, status);
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
