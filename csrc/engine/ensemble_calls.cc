// SPDX-License-Identifier: Apache-2.0
// ensemble_calls.cc - a run talks: requests to the models of its steps, responses to its own request.
#include <algorithm>
#include <utility>

#include "base/burst.h"
#include "engine/engine.h"
#include "engine/ensemble_run.h"
#include "engine/step_sink.h"
#include "infer/validate.h"
#include "sched/queued.h"

namespace pyinfer {
namespace {

bool DimsMatch(const Shape& dims, const Shape& shape) {
  return dims.size() == shape.size() && std::equal(dims.begin(), dims.end(), shape.begin(),
                                                   [](int64_t dim, int64_t is) { return dim == -1 || dim == is; });
}

}  // namespace

void FitBatchDimension(bool batching, bool batched, const Shape& dims, Shape& shape) {
  if (batching == batched) return;
  const bool whole = DimsMatch(dims, shape);
  if (batching && whole) shape.insert(shape.begin(), 1);
  if (batched && !whole && !shape.empty() && shape.front() == 1) shape.erase(shape.begin());
}

StatusOr<StepSequencePtr> SequenceThatFollows(const Parameters& parameters, const CorrelationId& own) {
  std::shared_ptr<StepSequence> said;
  for (const auto& [name, value] : parameters) {
    const bool id = name == "sequence_id", start = name == "sequence_start";
    if (!id && !start && name != "sequence_end") continue;
    if (!said) said = std::make_shared<StepSequence>(StepSequence{own, 0});
    if (!id) {
      const bool* flag = std::get_if<bool>(&value);
      if (flag == nullptr) {
        return Status::InvalidArg("expect parameter '" + name + "' to be TRITONSERVER_PARAMETER_BOOL");
      }
      if (*flag) said->flags |= start ? kSequenceStart : kSequenceEnd;
    } else if (const auto* number = std::get_if<int64_t>(&value)) {
      said->id = {static_cast<uint64_t>(*number), {}};
    } else if (const auto* large = std::get_if<uint64_t>(&value)) {
      said->id = {*large, {}};
    } else if (const auto* text = std::get_if<std::string>(&value)) {
      said->id = {0, *text};
    } else {
      return Status::InvalidArg(
          "expected parameter 'sequence_id' to be TRITONSERVER_PARAMETER_INT or TRITONSERVER_PARAMETER_STRING");
    }
  }
  return {StepSequencePtr(std::move(said))};
}

void EnsembleRun::Resume() {
  if (const auto engine = ensemble_->engine()) return engine->Resume(shared_from_this());
  Advance();
}

void EnsembleRun::Call(const std::shared_ptr<EnsembleCall>& call) {
  const EnsemblePlan::Step& step = plan_.steps[call->step];
  const auto engine = ensemble_->engine();
  StatusOr<std::shared_ptr<Model>> model =
      engine ? engine->FindStep(step) : StatusOr<std::shared_ptr<Model>>(StoppingStatus());
  if (!model.ok()) {
    Request refused(std::make_shared<StepSink>(call));
    return refused.Fail(FailureReason::kOther, model.status());
  }
  engine->SubmitStep(MakeRequest(call, *model.value()->spec()), step, request_->trace.get());
}

RequestPtr EnsembleRun::MakeRequest(const std::shared_ptr<EnsembleCall>& call, const ModelSpec& model) const {
  const EnsemblePlan::Step& step = plan_.steps[call->step];
  auto request = std::make_unique<Request>(std::make_shared<StepSink>(call));
  request->slow_to_answer = true;
  request->model_name = step.model;
  request->model_version = step.version;
  request->id = request_->id;
  request->correlation_id = call->sequence ? call->sequence->id : request_->correlation_id;
  request->flags = call->sequence ? call->sequence->flags : request_->flags;
  request->priority = request_->priority;
  request->parameters = request_->parameters;
  const TimeNs now = ensemble_->clock().Now();
  request->timeline.receiving = request->timeline.received = now;
  if (request_->timeout_us != 0) {
    const auto spent = static_cast<uint64_t>(std::max<TimeNs>(0, now - request_->timeline.queued)) / 1000;
    request->timeout_us = request_->timeout_us > spent ? request_->timeout_us - spent : 1;
  }
  request->inputs.reserve(call->inputs.size());
  for (EnsembleValue& value : call->inputs) {
    if (const TensorSpec* spec = model.FindInput(value.tensor.name)) {
      FitBatchDimension(model.has_batch_dimension(), value.batched, spec->dims, value.tensor.shape);
    }
    request->inputs.push_back(std::move(value.tensor));
  }
  for (const EnsemblePlan::Port& port : step.outputs) {
    const auto& readers = plan_.tensors[port.tensor].readers;
    const auto needed = [&](size_t reader) { return demand_.steps[reader] != 0; };
    if (demand_.tensors[port.tensor] || std::any_of(readers.begin(), readers.end(), needed)) {
      request->requested_outputs.push_back({port.name});
    }
  }
  return request;
}

// As Triton's ensembles do, it tells the sequence that the request belongs to, or the last step.
Response EnsembleRun::MakeAnswer(Answer answer) const {
  const CorrelationId& id = answer.sequence ? answer.sequence->id : request_->correlation_id;
  const uint32_t flags = answer.sequence ? answer.sequence->flags : request_->flags;
  ParameterValue sequence = static_cast<int64_t>(id.number);
  if (!id.text.empty()) sequence = id.text;
  Parameters parameters = {{"sequence_id", std::move(sequence)},
                           {"sequence_start", (flags & kSequenceStart) != 0},
                           {"sequence_end", (flags & kSequenceEnd) != 0}};
  return MakeResponse(*request_, std::move(answer.outputs), std::move(parameters));
}

void EnsembleRun::Send(Todo& todo) {
  if (!todo.failure.ok()) return End(Response::Error(todo.failure));
  for (Answer& answer : todo.responses) {
    Response response = MakeAnswer(std::move(answer));
    if (!ensemble_->model().decoupled || !response.status.ok()) {
      todo.ends = true;
      return End(std::move(response));
    }
    if (request_->timeline.first_response == 0) request_->timeline.first_response = ensemble_->clock().Now();
    request_->Send(std::move(response));
  }
  if (todo.ends) End(Response::End());
}

void EnsembleRun::End(Response response) {
  // The client's own cancellation has no text.
  if (!response.status.ok() && (response.status.code() != Code::kCancelled || !response.status.message().empty())) {
    response.status =
        Status(response.status.code(), "in ensemble '" + ensemble_->model().name + "', " + response.status.message());
  }
  RequestPtr request;
  std::vector<std::shared_ptr<EnsembleCall>> places;
  bool left;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    request = std::move(request_);
    left = open_ != 0;
    changed_.clear();
    // Those that were let go and were not called, and those that are over: others can have their places.
    for (auto* calls : {&entered_, &over_, &staying_}) {
      std::move(calls->begin(), calls->end(), std::back_inserter(places));
      calls->clear();
    }
    unseen_.clear();
    Timeline& times = request->timeline;
    times.packed = times.picked + input_ns_;
    times.executed = times.packed + infer_ns_;
    times.split = times.executed + output_ns_;
    request->failure = reason_;
  }
  TellListeners();
  for (const auto& call : places) ensemble_->Leave(call->step);
  ensemble_->Remove(this);
  if (response.status.ok()) ensemble_->NoteSuccess(*request);
  request->Answer(std::move(response));
  if (!left) return;
  // What waits in the queues of other models need not be executed.
  if (const auto engine = ensemble_->engine()) {
    engine->NoteCancellation();
    Burst::AtEnd(engine);
  }
}

}  // namespace pyinfer
