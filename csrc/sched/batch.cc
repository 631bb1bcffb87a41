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
    : requests_(std::move(requests)),
      responses_(requests_.size()),
      states_(std::move(states)),
      next_states_(states_.size()),
      model_(std::move(model)),
      observer_(std::move(observer)),
      clock_(&clock),
      finished_(false) {
  times_.picked = times_.packed = picked;
  for (const RequestPtr& request : requests_) rows_ += std::max<int64_t>(1, request->batch_size);
  if (model_->padding) PadInputs(requests_);
  if (!model_->sequence || !model_->sequence->iterative) return;
  for (const RequestPtr& request : requests_) sequels_.push_back({request->correlation_id, false});
}

Batch::Batch(Batch&& other) noexcept { *this = std::move(other); }

Batch& Batch::operator=(Batch&& other) noexcept {
  Finish();
  requests_ = std::move(other.requests_);
  responses_ = std::move(other.responses_);
  states_ = std::move(other.states_);
  next_states_ = std::move(other.next_states_);
  sequels_ = std::move(other.sequels_);
  model_ = std::move(other.model_);
  observer_ = std::move(other.observer_);
  held_ = std::move(other.held_);
  clock_ = other.clock_;
  times_ = other.times_;
  rows_ = other.rows_;
  finished_ = std::exchange(other.finished_, true);
  other.requests_.clear();
  other.responses_.clear();
  other.states_.clear();
  other.next_states_.clear();
  other.sequels_.clear();
  return *this;
}

void Batch::MarkPacked() { times_.packed = clock_->Now(); }

void Batch::Respond(size_t index, std::vector<Tensor> outputs, Parameters parameters) {
  if (index < sequels_.size()) sequels_[index].again = false;
  if (Status status = TakeState(index, outputs); !status.ok()) return Fail(index, std::move(status));
  Response response = MakeResponse(*requests_[index], std::move(outputs), std::move(parameters));
  if (!response.status.ok()) return Fail(index, std::move(response.status));
  responses_[index] = std::move(response);
}

Status Batch::TakeState(size_t index, std::vector<Tensor>& outputs) {
  if (!has_states()) return Status();
  StatusOr<std::vector<Tensor>> next = TakeStateOutputs(*model_, outputs);
  if (!next.ok()) return next.status();
  next_states_[index] = std::move(next).value();
  return Status();
}

void Batch::ReplaceStates() noexcept {
  for (size_t i = 0; i < states_.size(); ++i) {
    if (states_[i] && responses_[i] && responses_[i]->status.ok())
      states_[i]->Replace(std::move(next_states_[i]), size() == 1);
  }
}

std::shared_ptr<Responder> Batch::Detach(size_t index) {
  Timeline& timeline = requests_[index]->timeline;
  timeline.picked = times_.picked;
  timeline.packed = times_.packed;
  return std::make_shared<Responder>(std::move(requests_[index]), *clock_, held_);
}

bool Batch::may_reschedule(size_t index) const {
  return !sequels_.empty() && !answered(index) && !sequels_[index].again && !sequels_[index].sequence.none();
}

bool Batch::Reschedule(size_t index, Responder* responder) {
  if (responder != nullptr) requests_[index] = responder->TakeBack();
  if (detached(index)) return false;
  sequels_[index].again = true;
  return true;
}

// Before the answers: what was executed leaves its place for those that come next.
void Batch::ReturnRequests() noexcept {
  for (size_t i = 0; i < sequels_.size(); ++i) {
    if (!sequels_[i].again) {
      if (observer_) observer_->OnReleased(sequels_[i].sequence);
    } else if (observer_) {
      observer_->OnRescheduled(std::move(requests_[i]));
    } else {
      GiveUp(std::move(requests_[i]), FailureReason::kRejected, StoppingStatus());
    }
  }
}

void Batch::Fail(size_t index, Status status) {
  if (index < sequels_.size()) sequels_[index].again = false;
  requests_[index]->failure = FailureReason::kBackend;
  responses_[index] = Response::Error(std::move(status));
}

void Batch::FailOpen(const Status& status) {
  for (size_t i = 0; i < size(); ++i) {
    if (open(i) && !(i < sequels_.size() && sequels_[i].again)) Fail(i, status);
  }
}

void Batch::RespondPacked(std::vector<Tensor> outputs) {
  times_.executed = clock_->Now();
  StatusOr<std::vector<std::vector<Tensor>>> parts = Split(*this, std::move(outputs));
  if (!parts.ok()) return FailOpen(parts.status());
  for (size_t i = 0; i < size(); ++i) {
    if (open(i)) Respond(i, std::move(parts.value()[i]), {});
  }
}

void Batch::SettleOutputs() {
  for (size_t i = 0; i < size(); ++i) {
    if (detached(i) || !responses_[i]) continue;
    for (Tensor& output : responses_[i]->outputs) {
      // Finish moves these to where the client wants them, and the executor is not called again before; but an answer
      // that has its turn may have to wait for others.
      const Request& request = *requests_[i];
      if (request.uses_shared_memory && !request.order && DestinationOf(request, output) != nullptr) continue;
      if (!output.data.settled()) output.data = Slice::Copy(output.data.data(), output.data.size());
    }
  }
  for (std::vector<Tensor>& inputs : next_states_) {
    for (Tensor& input : inputs) {
      if (!input.data.settled()) input.data = Slice::Copy(input.data.data(), input.data.size());
    }
  }
}

void Batch::SettleOutputsIn(std::string_view bytes) {
  for (size_t i = 0; i < size(); ++i) {
    if (detached(i) || !responses_[i]) continue;
    for (Tensor& output : responses_[i]->outputs) {
      const bool inside = std::less_equal<const void*>()(bytes.data(), output.data.data()) &&
                          std::less<const void*>()(output.data.data(), bytes.data() + bytes.size());
      if (inside && !output.data.settled()) output.data = Slice::Copy(output.data.data(), output.data.size());
    }
  }
}

void Batch::Finish() noexcept {
  if (std::exchange(finished_, true)) return;
  // What goes on from these answers can be batched again.
  const Burst burst;
  const TimeNs now = clock_->Now();
  if (times_.executed == 0) times_.executed = now;
  times_.split = now;
  FailOpen(Status::Internal("the model '" + model_->name + "' did not answer the request"));
  if (observer_) observer_->OnExecuted(rows_, times_);
  ReplaceStates();  // before the answers: whoever has one may send the next request of its sequence
  ReturnRequests();
  held_.reset();
  for (size_t i = 0; i < size(); ++i) {
    if (detached(i)) continue;
    Timeline& timeline = requests_[i]->timeline;
    timeline.picked = times_.picked;
    timeline.packed = times_.packed;
    timeline.executed = times_.executed;
    timeline.split = times_.split;
    Conclude(std::move(requests_[i]), std::move(*responses_[i]));
  }
  requests_.clear();
  responses_.clear();
  states_.clear();
  next_states_.clear();
  sequels_.clear();
}

}  // namespace pyinfer
