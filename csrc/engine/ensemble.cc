// SPDX-License-Identifier: Apache-2.0
#include "engine/ensemble.h"

#include <algorithm>
#include <utility>

#include "engine/engine.h"
#include "engine/ensemble_run.h"
#include "sched/queued.h"

namespace pyinfer {

Ensemble::Ensemble(std::shared_ptr<const ModelSpec> model, const std::vector<std::shared_ptr<Model>>& bound,
                   std::weak_ptr<Engine> engine, std::shared_ptr<const Clock> clock,
                   std::weak_ptr<ExecutionObserver> observer)
    : model_(std::move(model)),
      plan_(*model_, bound),
      engine_(std::move(engine)),
      clock_(std::move(clock)),
      observer_(std::move(observer)),
      gates_(model_->ensemble->max_inflight_requests != 0 ? plan_.steps.size() : 0) {}

Ensemble::~Ensemble() = default;

bool Ensemble::Push(RequestPtr request) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!closed_) {
      pushed_.push_back(std::move(request));
      return true;
    }
  }
  request->Fail(FailureReason::kRejected, StoppingStatus());
  return false;
}

bool Ensemble::Wake() {
  std::vector<std::shared_ptr<EnsembleRun>> begun;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (RequestPtr& request : pushed_) {
      begun.push_back(std::make_shared<EnsembleRun>(shared_from_this(), std::move(request)));
      runs_.insert(begun.back().get());
    }
    pushed_.clear();
  }
  for (const auto& run : begun) {
    if (run->Schedule()) run->Advance();
  }
  return false;
}

std::vector<std::shared_ptr<EnsembleRun>> Ensemble::LiveRuns() const {
  std::vector<std::shared_ptr<EnsembleRun>> runs;
  std::lock_guard<std::mutex> lock(mutex_);
  for (EnsembleRun* run : runs_) {
    if (auto owned = run->weak_from_this().lock()) runs.push_back(std::move(owned));
  }
  return runs;
}

void Ensemble::Reap() {
  for (const auto& run : LiveRuns()) {
    if (run->cancelled() && run->Schedule()) run->Advance();
  }
}

void Ensemble::Close() {
  std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
}

void Ensemble::FailAll(const Status& status) {
  std::vector<RequestPtr> pushed;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    pushed.swap(pushed_);
  }
  for (RequestPtr& request : pushed) request->Fail(FailureReason::kRejected, status);
  for (const auto& run : LiveRuns()) run->Fail(status);
}

size_t Ensemble::size() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return pushed_.size();
}

void Ensemble::NoteSuccess(const Request& request) const {
  const auto observer = observer_.lock();
  if (!observer) return;
  const Timeline& times = request.timeline;
  observer->OnExecuted(std::max<int64_t>(1, request.batch_size),
                       {times.picked, times.packed, times.executed, times.split});
}

bool Ensemble::Enter(const std::shared_ptr<EnsembleCall>& call) {
  if (gates_.empty()) return true;
  std::lock_guard<std::mutex> lock(gates_mutex_);
  Gate& gate = gates_[call->step];
  if (gate.inside < model_->ensemble->max_inflight_requests) {
    ++gate.inside;
    return true;
  }
  gate.waiting.push_back(call);
  return false;
}

void Ensemble::Leave(size_t step) {
  if (gates_.empty()) return;
  for (;;) {
    std::shared_ptr<EnsembleCall> next;
    {
      std::lock_guard<std::mutex> lock(gates_mutex_);
      Gate& gate = gates_[step];
      if (gate.waiting.empty()) {
        --gate.inside;
        return;
      }
      next = std::move(gate.waiting.front());
      gate.waiting.pop_front();
    }
    EnsembleRun& run = *next->run;
    if (run.OnEntered(std::move(next))) return;
  }
}

void Ensemble::Remove(EnsembleRun* run) {
  std::lock_guard<std::mutex> lock(mutex_);
  runs_.erase(run);
}

}  // namespace pyinfer
