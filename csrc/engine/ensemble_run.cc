// SPDX-License-Identifier: Apache-2.0
// ensemble_run.cc - the graph: what is there, what can be called, when it is over. ensemble_calls.cc talks to the
// models.
#include "engine/ensemble_run.h"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/engine.h"

namespace pyinfer {

EnsembleRun::EnsembleRun(std::shared_ptr<Ensemble> ensemble, RequestPtr request)
    : ensemble_(std::move(ensemble)),
      plan_(ensemble_->plan()),
      demand_(plan_.DemandOf(*request)),
      request_(std::move(request)),
      root_(nullptr, plan_) {
  request_->timeline.picked = ensemble_->clock().Now();
}

EnsembleRun::~EnsembleRun() { ensemble_->Remove(this); }

bool EnsembleRun::ScheduleLocked() { return request_ != nullptr && !std::exchange(scheduled_, true); }

bool EnsembleRun::Schedule() {
  std::lock_guard<std::mutex> lock(mutex_);
  return ScheduleLocked();
}

bool EnsembleRun::cancelled() const noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  return !request_ || request_->cancelled();
}

void EnsembleRun::FailLocked(FailureReason reason, Status status) {
  if (!failure_.ok()) return;
  failure_ = std::move(status);
  reason_ = reason;
}

void EnsembleRun::Fail(Status status) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    FailLocked(FailureReason::kRejected, std::move(status));
    if (!ScheduleLocked()) return;
  }
  Advance();
}

bool EnsembleRun::OnEntered(std::shared_ptr<EnsembleCall> call) {
  bool schedule;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!request_) return false;
    entered_.push_back(std::move(call));
    schedule = ScheduleLocked();
  }
  if (schedule) Resume();
  return true;
}

void EnsembleRun::OnResponse(const std::shared_ptr<EnsembleCall>& call, const Request& request, Response response,
                             bool final) {
  bool schedule;
  bool leave = final;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!response.status.ok()) {
      FailLocked(FailureReason::kOther, std::move(response.status));
    } else if (request_ && !response.only_ends) {
      StatusOr<StepSequencePtr> sequence = SequenceThatFollows(response.parameters, request.correlation_id);
      if (sequence.ok()) {
        KeepOutputsLocked(call, request, std::move(response.outputs), std::move(sequence).value());
      } else {
        FailLocked(FailureReason::kOther, sequence.status());
      }
    }
    if (final) {
      const Timeline& times = request.timeline;
      input_ns_ += std::max<TimeNs>(0, times.packed - times.picked);
      infer_ns_ += std::max<TimeNs>(0, times.executed - times.packed);
      output_ns_ += std::max<TimeNs>(0, times.split - times.executed);
      --open_;
      --call->context->open;
      touched_.push_back(call->context);
    }
    // Its place may be kept for what its answer makes possible.
    if (final && request_ && ensemble_->limited()) {
      over_.push_back(call);
      leave = false;
    }
    schedule = ScheduleLocked();
  }
  if (leave) ensemble_->Leave(call->step);
  if (schedule) Resume();
}

void EnsembleRun::KeepOutputsLocked(const std::shared_ptr<EnsembleCall>& call, const Request& request,
                                    std::vector<Tensor> outputs, StepSequencePtr sequence) {
  EnsembleContext* context = call->context;
  const std::shared_ptr<EnsembleCall> by = ensemble_->limited() ? call : nullptr;
  if (!sequence) sequence = call->sequence;
  if (by && request.model->decoupled) {
    ++by->unseen;
    unseen_.push_back(by);
  }
  if (request.model->decoupled) {
    context->children.push_back(std::make_unique<EnsembleContext>(context, plan_));
    context = context->children.back().get();
    touched_.push_back(context);
  }
  for (Tensor& output : outputs) {
    for (const Slice& slice : call->shared) {
      const uint8_t* at = output.data.data();
      if (at >= slice.data() && at < slice.data() + slice.size()) output.shared = true;
    }
    for (const EnsemblePlan::Port& port : plan_.steps[call->step].outputs) {
      if (port.name != output.name) continue;
      SetLocked(*context, port.tensor,
                {EnsembleValue::State::kSet, request.model->has_batch_dimension(), std::move(output), sequence}, by);
      break;
    }
  }
}

void EnsembleRun::SetLocked(EnsembleContext& context, size_t tensor, EnsembleValue value,
                            std::shared_ptr<EnsembleCall> by) {
  context.values[tensor] = std::move(value);
  changed_.push_back({&context, tensor, std::move(by)});
}

void EnsembleRun::SetInputsLocked() {
  for (const size_t tensor : plan_.inputs) {
    SetLocked(root_, tensor, {EnsembleValue::State::kAbsent, false, {}, {}});
  }
  for (Tensor& input : request_->inputs) {
    const size_t tensor = plan_.Tensor(input.name);
    root_.values[tensor] = {EnsembleValue::State::kSet, ensemble_->model().has_batch_dimension(), std::move(input), {}};
  }
  request_->inputs.clear();
}

std::pair<EnsembleValue*, EnsembleContext*> EnsembleRun::SeeLocked(EnsembleContext& context, size_t tensor) const {
  for (EnsembleContext* at = &context; at != nullptr; at = at->parent) {
    if (at->values[tensor].state != EnsembleValue::State::kUnset) return {&at->values[tensor], at};
  }
  return {&context.values[tensor], &context};
}

bool EnsembleRun::IsReadyLocked(EnsembleContext& context, size_t step) const {
  const auto& inputs = plan_.steps[step].inputs;
  return std::all_of(inputs.begin(), inputs.end(), [&](const EnsemblePlan::Port& port) {
    return SeeLocked(context, port.tensor).first->state != EnsembleValue::State::kUnset;
  });
}

void EnsembleRun::CallReadyLocked(EnsembleContext& context, size_t step, const std::shared_ptr<EnsembleCall>& cause,
                                  Todo& todo) {
  if (!IsReadyLocked(context, step)) {
    for (const auto& child : context.children) CallReadyLocked(*child, step, cause, todo);
    return;
  }
  if (std::exchange(context.called[step], char{1})) return;
  ++open_;
  ++context.open;
  todo.calls.push_back(MakeCallLocked(context, step));
  todo.calls.back()->cause = cause;
}

std::shared_ptr<EnsembleCall> EnsembleRun::MakeCallLocked(EnsembleContext& context, size_t step) {
  auto call = std::make_shared<EnsembleCall>();
  call->run = shared_from_this();
  call->context = &context;
  call->step = step;
  for (const EnsemblePlan::Port& port : plan_.steps[step].inputs) {
    const auto [value, owner] = SeeLocked(context, port.tensor);
    if (value->state == EnsembleValue::State::kAbsent) continue;
    const bool only_reader =
        plan_.tensors[port.tensor].ports == 1 && !demand_.tensors[port.tensor] && owner == &context;
    if (!only_reader) value->tensor.shared = true;
    // Also one that was made of shared bytes.
    if (value->tensor.shared) call->shared.push_back(value->tensor.data);
    if (!call->sequence) call->sequence = value->sequence;
    EnsembleValue given{value->state, value->batched, {}, {}};
    given.tensor = only_reader ? std::move(value->tensor) : value->tensor;
    given.tensor.name = port.name;
    call->inputs.push_back(std::move(given));
  }
  return call;
}

void EnsembleRun::RespondReadyLocked(EnsembleContext& context, Todo& todo) {
  Answer answer;
  for (const size_t tensor : demand_.outputs) {
    const EnsembleValue& value = *SeeLocked(context, tensor).first;
    if (value.state != EnsembleValue::State::kSet) {
      for (const auto& child : context.children) RespondReadyLocked(*child, todo);
      return;
    }
    if (!answer.sequence) answer.sequence = value.sequence;
    Tensor& output = answer.outputs.emplace_back(value.tensor);
    output.name = plan_.tensors[tensor].name;
    const TensorSpec* spec = ensemble_->model().FindOutput(output.name);
    FitBatchDimension(ensemble_->model().has_batch_dimension(), value.batched, spec->executor_dims(), output.shape);
  }
  if (std::exchange(context.responded, true)) return;
  todo.responses.push_back(std::move(answer));
}

bool EnsembleRun::IsSpentLocked(const EnsembleContext& context) const {
  if (context.parent == nullptr || context.open != 0 || !context.children.empty()) return false;
  for (size_t tensor = 0; tensor < context.values.size(); ++tensor) {
    if (context.values[tensor].state == EnsembleValue::State::kUnset) continue;
    if (demand_.tensors[tensor] && !context.responded) return false;
    for (const size_t reader : plan_.tensors[tensor].readers) {
      if (demand_.steps[reader] && !context.called[reader]) return false;
    }
  }
  return true;
}

void EnsembleRun::FreeSpentLocked() {
  while (!touched_.empty()) {
    EnsembleContext* context = touched_.back();
    touched_.pop_back();
    if (!IsSpentLocked(*context)) continue;
    touched_.erase(std::remove(touched_.begin(), touched_.end(), context), touched_.end());
    EnsembleContext* parent = context->parent;
    auto& siblings = parent->children;
    siblings.erase(
        std::find_if(siblings.begin(), siblings.end(), [&](const auto& one) { return one.get() == context; }));
    touched_.push_back(parent);
  }
}

EnsembleRun::Todo EnsembleRun::CollectLocked() {
  Todo todo;
  if (request_->cancelled()) {
    failure_ = Status::Cancelled();
    reason_ = FailureReason::kCancelled;
  }
  if (!std::exchange(begun_, true)) SetInputsLocked();
  if (failure_.ok()) {
    todo.entered.swap(entered_);
    todo.over.swap(over_);
    todo.seen.swap(unseen_);
    for (const Change& change : std::exchange(changed_, {})) {
      for (const size_t reader : plan_.tensors[change.tensor].readers) {
        if (demand_.steps[reader]) CallReadyLocked(*change.context, reader, change.by, todo);
      }
      if (demand_.tensors[change.tensor]) RespondReadyLocked(*change.context, todo);
    }
    FreeSpentLocked();
    const bool decoupled = ensemble_->model().decoupled;
    const bool over = open_ == 0;
    if (over && !decoupled && todo.responses.empty()) {
      const std::string id = request_->id.empty() ? "<id_unknown>" : request_->id;
      FailLocked(FailureReason::kOther, Status::InvalidArg("[request id: " + id +
                                                           "] unexpected deadlock, at least one output is not set "
                                                           "while no more ensemble steps can be made"));
    }
    todo.ends = over || (!decoupled && !todo.responses.empty());
  }
  if (!failure_.ok()) todo.ends = true;
  todo.failure = failure_;
  return todo;
}

void EnsembleRun::Advance() {
  for (;;) {
    Todo todo;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      todo = CollectLocked();
      if (todo.empty()) {
        scheduled_ = false;
        return;
      }
    }
    for (const auto& call : todo.entered) Call(call);
    for (const auto& call : todo.calls) {
      if (ensemble_->Enter(call)) {
        call->cause.reset();
        Call(call);
      } else {
        todo.kept_out.push_back(call);
      }
    }
    if (ensemble_->limited()) GiveBack(todo);
    Send(todo);
    if (todo.ends) return;
  }
}

}  // namespace pyinfer
