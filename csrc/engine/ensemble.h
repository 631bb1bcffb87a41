// SPDX-License-Identifier: Apache-2.0
// ensemble.h - the source of a model whose execution is a graph of requests to other models.
//
// There is no batch to take: a request that is pushed becomes a run (ensemble_run.h) at the next Wake(). Each step of
// it is a request to the step's model, pushed into that model's own queue, where it is batched with whatever waits
// there; its answer carries the run on. No thread waits for one and no tensor is copied. What may run side by side
// does.
//
// max_inflight_requests: of each step at most so many requests of this ensemble are with its model; further ones wait
// here, in order. A step keeps its place until what its answer makes possible has got one, so that what waits between
// steps is bounded as well; and a decoupled model is held up while something waits that one of its responses has made
// possible.
//
// Source of the rules: Triton's ensemble scheduler.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "engine/ensemble_plan.h"
#include "sched/batch_source.h"

namespace pyinfer {

class Engine;
class EnsembleRun;
struct EnsembleCall;

class Ensemble final : public BatchSource, public std::enable_shared_from_this<Ensemble> {
 public:
  // Requires: model->ensemble. `bound`: see EnsemblePlan. `observer` is told of each run that succeeded, as of an
  // execution.
  Ensemble(std::shared_ptr<const ModelSpec> model, const std::vector<std::shared_ptr<Model>>& bound,
           std::weak_ptr<Engine> engine, std::shared_ptr<const Clock> clock, std::weak_ptr<ExecutionObserver> observer);
  ~Ensemble() override;

  size_t AddInstance() override { return 0; }
  void RemoveInstance(size_t) override {}
  bool Push(RequestPtr request) override;
  // Begins what was pushed, without waiting for any of it.
  bool Wake() override;
  bool Wait(size_t) override { return false; }
  Batch Take(size_t, TimeNs) override { return Batch(); }
  TimeNs RipeAt(size_t, TimeNs) const override { return -1; }
  // Cancelled runs are answered at once, whatever their steps do.
  void Reap() override;
  // What waits is in the queues of the steps' models, under their policies.
  TimeNs Expire(TimeNs) override { return 0; }
  // Runs that have begun go on.
  void Close() override;
  void FailAll(const Status& status) override;
  size_t size() const override;

  // For its runs.
  const ModelSpec& model() const { return *model_; }
  const EnsemblePlan& plan() const { return plan_; }
  const Clock& clock() const { return *clock_; }
  std::shared_ptr<Engine> engine() const { return engine_.lock(); }
  void NoteSuccess(const Request& request) const;
  bool limited() const { return !gates_.empty(); }
  // Whether `call` may go to its model now. If not, it is kept, and goes once another of its step has left.
  bool Enter(const std::shared_ptr<EnsembleCall>& call);
  // A call of this step has no need of its place any more.
  void Leave(size_t step);
  // `run` is answered.
  void Remove(EnsembleRun* run);

 private:
  // The way to one step's model.
  struct Gate {
    size_t inside = 0;
    std::deque<std::shared_ptr<EnsembleCall>> waiting;
  };

  std::vector<std::shared_ptr<EnsembleRun>> LiveRuns() const;

  const std::shared_ptr<const ModelSpec> model_;
  const EnsemblePlan plan_;
  const std::weak_ptr<Engine> engine_;
  const std::shared_ptr<const Clock> clock_;
  const std::weak_ptr<ExecutionObserver> observer_;

  mutable std::mutex mutex_;
  std::vector<RequestPtr> pushed_;
  std::unordered_set<EnsembleRun*> runs_;  // those that are not answered; each is kept alive by its owners elsewhere
  bool closed_ = false;

  std::mutex gates_mutex_;
  std::vector<Gate> gates_;  // by step; empty where nothing is limited
};

}  // namespace pyinfer
