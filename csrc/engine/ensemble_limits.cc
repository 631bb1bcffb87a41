// SPDX-License-Identifier: Apache-2.0
// ensemble_limits.cc - ensembles whose steps are limited: who keeps a place for whom, and who is held up.
#include <algorithm>
#include <condition_variable>
#include <optional>
#include <utility>

#include "engine/engine.h"
#include "engine/ensemble_run.h"
#include "engine/step_sink.h"

namespace pyinfer {
namespace {

// After so long a producer goes on all the same, as with Triton: its code may hold something that the steps behind it
// need, of which nothing is known here.
constexpr TimeNs kPatience = 300'000'000'000;

// The producer that answers `call`, as long as what it has sent holds it up: in the ensemble, and then in the one of
// which that is a step, and so on.
class ProducerWait final : public RoomWait {
 public:
  ProducerWait(std::shared_ptr<EnsembleCall> call, const Producer& producer, std::shared_ptr<RoomListener> listener)
      : call_(std::move(call)),
        producer_(producer),
        listener_(std::move(listener)),
        engine_(call_->run->ensemble().engine()),
        model_(std::dynamic_pointer_cast<Model>(producer.observer)) {}
  ~ProducerWait() override { Leave(); }

  bool over() override {
    if (!passed_) {
      if (HeldUp()) return false;
      Leave();
      passed_ = true;
      if (const auto outer = call_->run->outer()) outer_ = outer->AskForRoom(producer_, listener_);
    }
    return !outer_ || outer_->over();
  }
  bool cancelled() const override { return call_->run->cancelled(); }

 private:
  bool HeldUp() {
    if (!engine_ || !model_ || !call_->run->HoldsUp(*call_, listener_)) return false;
    const TimeNs now = engine_->Now();
    if (!wait_) {
      until_ = now + kPatience;
      wait_ = engine_->calls().EnterYielding(model_, producer_.held, Needed());
    }
    return now < until_ && !engine_->calls().ForEver(*wait_);
  }
  // Whoever executes the steps behind.
  std::vector<CallGraph::Callee> Needed() const {
    const EnsemblePlan& plan = call_->run->ensemble().plan();
    std::vector<CallGraph::Callee> needed;
    for (const size_t step : plan.StepsBehind(call_->step)) {
      std::vector<CallGraph::Callee> some = engine_->Executors(plan.steps[step].model, plan.steps[step].version);
      std::move(some.begin(), some.end(), std::back_inserter(needed));
    }
    return needed;
  }
  void Leave() {
    if (wait_) engine_->calls().Leave(*wait_);
    wait_.reset();
  }

  const std::shared_ptr<EnsembleCall> call_;
  const Producer producer_;
  const std::shared_ptr<RoomListener> listener_;
  const std::shared_ptr<Engine> engine_;
  const std::shared_ptr<Model> model_;
  std::optional<uint64_t> wait_;  // in the graph of calls
  TimeNs until_ = 0;
  bool passed_ = false;  // this ensemble holds it up no more
  std::unique_ptr<RoomWait> outer_;
};

// A thread that waits.
class BlockedThread final : public RoomListener {
 public:
  void OnRoom() noexcept override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      told_ = true;
    }
    changed_.notify_one();
  }
  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, RoomWait::kLook, [this] { return std::exchange(told_, false); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool told_ = false;
};

}  // namespace

std::unique_ptr<RoomWait> StepSink::AskForRoom(const Producer& producer, std::shared_ptr<RoomListener> listener) const {
  if (!limits_room()) return nullptr;
  auto wait = std::make_unique<ProducerWait>(call_, producer, std::move(listener));
  if (wait->over()) return nullptr;
  return wait;
}

void StepSink::WaitForRoom(const Producer& producer) const {
  if (!limits_room()) return;
  const auto thread = std::make_shared<BlockedThread>();
  const std::unique_ptr<RoomWait> wait = AskForRoom(producer, thread);
  while (wait && !wait->over()) thread->Wait();
}

bool EnsembleRun::limits_room() const {
  if (ensemble_->limited()) return true;
  const auto sink = outer();
  return sink && sink->limits_room();
}

std::shared_ptr<const CompletionSink> EnsembleRun::outer() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return request_ ? request_->sink().lock() : nullptr;
}

bool EnsembleRun::HoldsUp(const EnsembleCall& call, const std::shared_ptr<RoomListener>& listener) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (call.held + call.unseen == 0 || !request_ || request_->cancelled()) return false;
  const auto listens = [&](const std::weak_ptr<RoomListener>& one) { return one.lock() == listener; };
  if (std::none_of(listeners_.begin(), listeners_.end(), listens)) listeners_.push_back(listener);
  return true;
}

void EnsembleRun::TellListeners() {
  std::vector<std::weak_ptr<RoomListener>> listeners;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    listeners.swap(listeners_);
  }
  for (const auto& weak : listeners) {
    if (const auto listener = weak.lock()) listener->OnRoom();
  }
}

bool EnsembleRun::ReleaseCauseLocked(EnsembleCall& call, std::vector<size_t>& left) {
  const std::shared_ptr<EnsembleCall> cause = std::exchange(call.cause, nullptr);
  if (!cause || --cause->held != 0) return false;
  if (cause->over) {
    staying_.erase(std::find(staying_.begin(), staying_.end(), cause));
    left.push_back(cause->step);
  }
  return true;
}

void EnsembleRun::GiveBack(const Todo& todo) {
  std::vector<size_t> left;
  bool freed = !todo.seen.empty();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& call : todo.kept_out) {
      if (call->cause) ++call->cause->held;
    }
    for (const auto& call : todo.seen) --call->unseen;
    for (const auto& call : todo.entered) freed = ReleaseCauseLocked(*call, left) || freed;
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
  if (freed) TellListeners();
}

}  // namespace pyinfer
