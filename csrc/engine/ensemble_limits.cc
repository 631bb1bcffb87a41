// SPDX-License-Identifier: Apache-2.0
// ensemble_limits.cc - runs of an ensemble whose steps are limited: who keeps a place for whom, and who is held up.
#include <algorithm>
#include <chrono>
#include <utility>

#include "engine/engine.h"
#include "engine/ensemble_run.h"

namespace pyinfer {
namespace {

// After so long a producer goes on all the same, as with Triton: its code may hold something that the steps behind it
// need, of which nothing is known here.
constexpr std::chrono::seconds kPatience(300);
// How often one that waits asks whether it would wait for ever.
constexpr std::chrono::milliseconds kLook(50);

}  // namespace

bool EnsembleRun::HoldsUpLocked(const EnsembleCall& call) const {
  return call.held + call.unseen != 0 && request_ != nullptr && !request_->cancelled();
}

void EnsembleRun::ReleaseCauseLocked(EnsembleCall& call, std::vector<size_t>& left) {
  const std::shared_ptr<EnsembleCall> cause = std::exchange(call.cause, nullptr);
  if (!cause || --cause->held != 0) return;
  if (waiting_ != 0) room_.notify_all();
  if (!cause->over) return;
  staying_.erase(std::find(staying_.begin(), staying_.end(), cause));
  left.push_back(cause->step);
}

void EnsembleRun::GiveBack(const Todo& todo) {
  std::vector<size_t> left;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& call : todo.kept_out) {
      if (call->cause) ++call->cause->held;
    }
    for (const auto& call : todo.seen) --call->unseen;
    if (waiting_ != 0 && !todo.seen.empty()) room_.notify_all();
    for (const auto& call : todo.entered) ReleaseCauseLocked(*call, left);
    for (const auto& call : todo.over) {
      call->over = true;
      if (call->held == 0) {
        left.push_back(call->step);
      } else {
        staying_.push_back(call);
      }
    }
  }
  for (const size_t step : left) ensemble_->Leave(step);
}

void EnsembleRun::WaitForRoom(const EnsembleCall& call, const std::shared_ptr<RequestObserver>& producer) {
  std::shared_ptr<const CompletionSink> outer;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (HoldsUpLocked(call)) WaitLocked(call, producer, lock);
    if (request_) outer = request_->sink().lock();
  }
  // The ensemble may be a step itself.
  if (outer) outer->WaitForRoom(producer);
}

void EnsembleRun::WaitLocked(const EnsembleCall& call, const std::shared_ptr<RequestObserver>& producer,
                             std::unique_lock<std::mutex>& lock) {
  const auto engine = ensemble_->engine();
  const auto model = std::dynamic_pointer_cast<Model>(producer);
  // What an instance holds while it executes may be what the steps behind it need.
  if (!engine || !model || model->rate_limiter()) return;
  lock.unlock();
  std::vector<CallGraph::Node> needed;
  for (const size_t step : plan_.StepsBehind(call.step)) {
    for (const auto& one : engine->Executors(plan_.steps[step].model, plan_.steps[step].version))
      needed.push_back(one.get());
  }
  const uint64_t wait = engine->calls().EnterYielding(model.get(), model->instances(), std::move(needed));
  const auto until = std::chrono::steady_clock::now() + kPatience;
  bool for_ever = engine->calls().ForEver(wait);
  lock.lock();
  ++waiting_;
  while (!for_ever && HoldsUpLocked(call) && std::chrono::steady_clock::now() < until) {
    room_.wait_for(lock, kLook);
    lock.unlock();
    for_ever = engine->calls().ForEver(wait);
    lock.lock();
  }
  --waiting_;
  lock.unlock();
  engine->calls().Leave(wait);
  lock.lock();
}

}  // namespace pyinfer
