// SPDX-License-Identifier: Apache-2.0
#include "sched/batch.h"

#include <algorithm>
#include <utility>

#include "base/burst.h"
#include "infer/shared_memory.h"
#include "infer/validate.h"
#include "sched/pack.h"

namespace pyinfer {

Batch::Batch(std::vector<RequestPtr> requests, std::shared_ptr<const ModelSpec> model,
             std::shared_ptr<ExecutionObserver> observer, const Clock& clock, TimeNs picked)
    : requests_(std::move(requests)),
      responses_(requests_.size()),
      model_(std::move(model)),
      observer_(std::move(observer)),
      clock_(&clock),
      finished_(false) {
  times_.picked = times_.packed = picked;
  for (const RequestPtr& request : requests_) rows_ += std::max<int64_t>(1, request->batch_size);
}

Batch::Batch(Batch&& other) noexcept { *this = std::move(other); }

Batch& Batch::operator=(Batch&& other) noexcept {
  Finish();
  requests_ = std::move(other.requests_);
  responses_ = std::move(other.responses_);
  model_ = std::move(other.model_);
  observer_ = std::move(other.observer_);
  clock_ = other.clock_;
  times_ = other.times_;
  rows_ = other.rows_;
  finished_ = std::exchange(other.finished_, true);
  other.requests_.clear();
  other.responses_.clear();
  return *this;
}

void Batch::MarkPacked() { times_.packed = clock_->Now(); }

void Batch::Respond(size_t index, std::vector<Tensor> outputs, Parameters parameters) {
  Response response = MakeResponse(*requests_[index], std::move(outputs), std::move(parameters));
  if (!response.status.ok()) return Fail(index, std::move(response.status));
  responses_[index] = std::move(response);
}

std::shared_ptr<Responder> Batch::Detach(size_t index) {
  Timeline& timeline = requests_[index]->timeline;
  timeline.picked = times_.picked;
  timeline.packed = times_.packed;
  return std::make_shared<Responder>(std::move(requests_[index]), *clock_);
}

void Batch::Fail(size_t index, Status status) {
  requests_[index]->failure = FailureReason::kBackend;
  responses_[index] = Response::Error(std::move(status));
}

void Batch::FailOpen(const Status& status) {
  for (size_t i = 0; i < size(); ++i) {
    if (open(i)) Fail(i, status);
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
      // Finish moves these to where the client wants them, and the executor is not called again before.
      if (requests_[i]->uses_shared_memory && DestinationOf(*requests_[i], output) != nullptr) continue;
      if (!output.data.settled()) output.data = Slice::Copy(output.data.data(), output.data.size());
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
  for (size_t i = 0; i < size(); ++i) {
    if (detached(i)) continue;
    Timeline& timeline = requests_[i]->timeline;
    timeline.picked = times_.picked;
    timeline.packed = times_.packed;
    timeline.executed = times_.executed;
    timeline.split = times_.split;
    requests_[i]->Answer(std::move(*responses_[i]));
  }
  requests_.clear();
  responses_.clear();
}

}  // namespace pyinfer
