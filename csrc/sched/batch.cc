// SPDX-License-Identifier: Apache-2.0
#include "sched/batch.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/burst.h"
#include "infer/shared_memory.h"
#include "infer/validate.h"
#include "sched/pack.h"
#include "sched/pad.h"
#include "sched/queued.h"

namespace pyinfer {

Batch::Batch(std::vector<RequestPtr> requests, std::shared_ptr<const ModelSpec> model,
             std::shared_ptr<ExecutionObserver> observer, const Clock& clock, TimeNs picked,
             std::vector<SequenceStatePtr> states)
    : contents_(std::make_unique<Contents>()) {
  contents_->requests = std::move(requests);
  contents_->responses.resize(contents_->requests.size());
  contents_->next_states.resize(states.size());
  contents_->states = std::move(states);
  contents_->model = std::move(model);
  contents_->observer = std::move(observer);
  contents_->clock = &clock;
  contents_->times.picked = contents_->times.packed = picked;
  for (const RequestPtr& request : contents_->requests) contents_->rows += std::max<int64_t>(1, request->batch_size);
  if (contents_->model->padding) PadInputs(contents_->requests);
  if (!contents_->model->sequence || !contents_->model->sequence->iterative) return;
  for (const RequestPtr& request : contents_->requests) contents_->sequels.push_back({request->correlation_id, false});
}

Batch& Batch::operator=(Batch&& other) noexcept {
  Finish();
  contents_ = std::move(other.contents_);
  return *this;
}

void Batch::MarkPacked() { contents_->times.packed = contents_->clock->Now(); }

void Batch::Respond(size_t index, std::vector<Tensor> outputs, Parameters parameters) {
  if (index < contents_->sequels.size()) contents_->sequels[index].again = false;
  if (Status status = TakeState(index, outputs); !status.ok()) return Fail(index, std::move(status));
  Response response = MakeResponse(*contents_->requests[index], std::move(outputs), std::move(parameters));
  if (!response.status.ok()) return Fail(index, std::move(response.status));
  contents_->responses[index] = std::move(response);
}

Status Batch::TakeState(size_t index, std::vector<Tensor>& outputs) {
  if (!has_states()) return Status();
  StatusOr<std::vector<Tensor>> next = TakeStateOutputs(*contents_->model, outputs);
  if (!next.ok()) return next.status();
  contents_->next_states[index] = std::move(next).value();
  return Status();
}

void Batch::ReplaceStates() noexcept {
  for (size_t i = 0; i < contents_->states.size(); ++i) {
    if (contents_->states[i] && contents_->responses[i] && contents_->responses[i]->status.ok())
      contents_->states[i]->Replace(std::move(contents_->next_states[i]), size() == 1);
  }
}

std::shared_ptr<Responder> Batch::Detach(size_t index) {
  Timeline& timeline = contents_->requests[index]->timeline;
  timeline.picked = contents_->times.picked;
  timeline.packed = contents_->times.packed;
  return std::make_shared<Responder>(std::move(contents_->requests[index]), *contents_->clock, contents_->held);
}

bool Batch::may_reschedule(size_t index) const {
  return !contents_->sequels.empty() && !answered(index) && !contents_->sequels[index].again &&
         !contents_->sequels[index].sequence.none();
}

bool Batch::Reschedule(size_t index, Responder* responder) {
  if (responder != nullptr) contents_->requests[index] = responder->TakeBack();
  if (detached(index)) return false;
  contents_->sequels[index].again = true;
  return true;
}

// Before the answers: what was executed leaves its place for those that come next.
void Batch::ReturnRequests() noexcept {
  for (size_t i = 0; i < contents_->sequels.size(); ++i) {
    if (!contents_->sequels[i].again) {
      if (contents_->observer) contents_->observer->OnReleased(contents_->sequels[i].sequence);
    } else if (contents_->observer) {
      contents_->observer->OnRescheduled(std::move(contents_->requests[i]));
    } else {
      GiveUp(std::move(contents_->requests[i]), FailureReason::kRejected, StoppingStatus());
    }
  }
}

void Batch::Fail(size_t index, Status status) {
  if (index < contents_->sequels.size()) contents_->sequels[index].again = false;
  contents_->requests[index]->failure = FailureReason::kBackend;
  contents_->responses[index] = Response::Error(std::move(status));
}

bool Batch::is_owed(size_t index) const {
  return open(index) && !(index < contents_->sequels.size() && contents_->sequels[index].again);
}

void Batch::FailOpen(const Status& status) {
  for (size_t i = 0; i < size(); ++i) {
    if (is_owed(i)) Fail(i, status);
  }
}

void Batch::RespondPacked(std::vector<Tensor> outputs) {
  contents_->times.executed = contents_->clock->Now();
  StatusOr<std::vector<std::vector<Tensor>>> parts = Split(*this, std::move(outputs));
  if (!parts.ok()) return FailOpen(parts.status());
  for (size_t i = 0; i < size(); ++i) {
    if (open(i)) Respond(i, std::move(parts.value()[i]), {});
  }
}

void Batch::SettleOutputs() {
  if (finished()) return;
  for (size_t i = 0; i < size(); ++i) {
    if (detached(i) || !contents_->responses[i]) continue;
    for (Tensor& output : contents_->responses[i]->outputs) {
      // Finish moves these to where the client wants them, and the executor is not called again before; but an answer
      // that has its turn may have to wait for others.
      const Request& request = *contents_->requests[i];
      if (request.uses_shared_memory && !request.order && DestinationOf(request, output) != nullptr) continue;
      if (!output.data.settled()) output.data = Slice::Copy(output.data.data(), output.data.size());
    }
  }
  for (std::vector<Tensor>& inputs : contents_->next_states) {
    for (Tensor& input : inputs) {
      if (!input.data.settled()) input.data = Slice::Copy(input.data.data(), input.data.size());
    }
  }
}

void Batch::SettleOutputsIn(std::string_view bytes) {
  for (size_t i = 0; i < size(); ++i) {
    if (detached(i) || !contents_->responses[i]) continue;
    for (Tensor& output : contents_->responses[i]->outputs) {
      const bool inside = std::less_equal<const void*>()(bytes.data(), output.data.data()) &&
                          std::less<const void*>()(output.data.data(), bytes.data() + bytes.size());
      if (inside && !output.data.settled()) output.data = Slice::Copy(output.data.data(), output.data.size());
    }
  }
}

void Batch::Finish() noexcept {
  if (finished()) return;
  contents_->finished = true;
  // What goes on from these answers can be batched again.
  const Burst burst;
  const TimeNs now = contents_->clock->Now();
  if (contents_->times.executed == 0) contents_->times.executed = now;
  contents_->times.split = now;
  for (size_t i = 0; i < size(); ++i) {
    if (is_owed(i)) Fail(i, Status::Internal("the model '" + model().name + "' did not answer the request"));
  }
  if (contents_->observer) contents_->observer->OnExecuted(contents_->rows, contents_->times);
  ReplaceStates();  // before the answers: whoever has one may send the next request of its sequence
  ReturnRequests();
  contents_->held.reset();
  for (size_t i = 0; i < size(); ++i) {
    if (detached(i)) continue;
    Timeline& timeline = contents_->requests[i]->timeline;
    timeline.picked = contents_->times.picked;
    timeline.packed = contents_->times.packed;
    timeline.executed = contents_->times.executed;
    timeline.split = contents_->times.split;
    Conclude(std::move(contents_->requests[i]), std::move(*contents_->responses[i]));
  }
  contents_->requests.clear();
  contents_->responses.clear();
  contents_->states.clear();
  contents_->next_states.clear();
  contents_->sequels.clear();
}

}  // namespace pyinfer
