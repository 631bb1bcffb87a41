// SPDX-License-Identifier: Apache-2.0
#include "sched/rehearsal.h"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <string>
#include <utility>

#include "infer/validate.h"
#include "sched/sequence_controls.h"
#include "sched/sequence_state.h"

namespace pyinfer {

// Keeps the first error of any request.
class Rehearsal::Sink final : public CompletionSink {
 public:
  void Send(const Request&, Response response, bool) noexcept override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (first_.ok()) first_ = std::move(response.status);
  }
  bool cancelled() const noexcept override { return false; }
  Status first() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return first_;
  }

 private:
  mutable std::mutex mutex_;
  Status first_;
};

namespace {

bool IsCorrelationText(const ModelSpec& model) {
  const auto& controls = model.sequence->controls;
  return std::any_of(controls.begin(), controls.end(), [](const SequenceControl& control) {
    return control.kind == SequenceControl::Kind::kCorrelationId && control.dtype == DType::kBytes;
  });
}

// Makes the request a whole sequence. `added` are inputs that the scheduler would make, over what it makes itself.
void CompleteSequence(Request& request, const SequenceStatePtr& state, std::vector<Tensor> added) {
  request.flags = kSequenceStart | kSequenceEnd;
  if (IsCorrelationText(*request.model)) {
    request.correlation_id.text = "warmup";
  } else {
    request.correlation_id.number = 1;
  }
  AddSequenceControls(request, /*ready=*/true);
  std::vector<Tensor> states = state->Inputs();
  std::move(states.begin(), states.end(), std::back_inserter(request.inputs));
  for (Tensor& tensor : added) {
    const auto same = std::find_if(request.inputs.begin(), request.inputs.end(),
                                   [&](const Tensor& input) { return input.name == tensor.name; });
    if (same != request.inputs.end()) *same = std::move(tensor);
  }
}

// Is this a tensor that the scheduler adds to requests?
bool IsAdded(const ModelSpec& model, const std::string& input) {
  if (!model.sequence) return false;
  const SequenceOptions& options = *model.sequence;
  return std::any_of(options.controls.begin(), options.controls.end(),
                     [&](const SequenceControl& control) { return control.name == input; }) ||
         std::any_of(options.states.begin(), options.states.end(),
                     [&](const SequenceStateSpec& state) { return state.input_name == input; });
}

}  // namespace

StatusOr<Rehearsal> Rehearsal::Make(const std::shared_ptr<const ModelSpec>& model, const Clock& clock,
                                    const std::vector<Tensor>& inputs, size_t size) {
  Rehearsal rehearsal;
  rehearsal.sink_ = std::make_shared<Sink>();
  std::vector<RequestPtr> requests;
  std::vector<SequenceStatePtr> states;
  for (size_t i = 0; i < size; ++i) {
    auto request = std::make_unique<Request>(rehearsal.sink_);
    request->model_name = model->name;
    request->model_version = model->version;
    request->model = model;
    std::vector<Tensor> added;
    for (const Tensor& input : inputs) (IsAdded(*model, input.name) ? added : request->inputs).push_back(input);
    if (Status status = ValidateRequest(*request); !status.ok()) return status;
    ReshapeInputs(*request);
    if (model->sequence) {
      const auto state = std::make_shared<SequenceState>(*model);
      CompleteSequence(*request, state, std::move(added));
      if (!model->sequence->states.empty()) states.push_back(state);
    }
    requests.push_back(std::move(request));
  }
  rehearsal.batch_ = Batch(std::move(requests), model, nullptr, clock, clock.Now(), std::move(states));
  return rehearsal;
}

Status Rehearsal::result() const { return sink_->first(); }

}  // namespace pyinfer
