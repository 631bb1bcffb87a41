// SPDX-License-Identifier: Apache-2.0
// engine.h - names -> models, and the door that protocols hand requests in by. Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/burst.h"
#include "base/doorbell.h"
#include "engine/call_graph.h"
#include "engine/ensemble_plan.h"
#include "engine/model.h"
#include "engine/tracer.h"
#include "infer/acceptor.h"

namespace pyinfer {

class EnsembleRun;

class Engine final : public RequestAcceptor, public Deferred, public std::enable_shared_from_this<Engine> {
 public:
  explicit Engine(std::shared_ptr<const Clock> clock)
      : clock_(std::move(clock)), tracer_(std::make_shared<Tracer>(clock_)) {}

  // A model that no request can reach until it is published. For an ensemble, `steps` has the model of each step as it
  // is found now, or is empty; requires then that the engine is owned by a shared_ptr.
  // `cache_origin`: see Model::Create; an ensemble's is not looked at, as its steps change without it.
  std::shared_ptr<Model> CreateModel(ModelSpec spec, const std::vector<std::shared_ptr<Model>>& steps = {},
                                     std::string cache_origin = "");
  // Where models that are created from now on keep answers, if their configuration says so.
  void SetResponseCache(std::shared_ptr<ResponseCache> cache) { cache_ = std::move(cache); }
  // What the instances of models that are created from now on have to hold while they execute.
  void SetRateLimiter(std::shared_ptr<RateLimiter> limiter) { limiter_ = std::move(limiter); }

  // Whether that cache is outside of this process.
  bool has_remote_cache() const { return cache_ && cache_->remote(); }

  // Makes `models` the versions of `name` that are served; the highest is the default. `not_ready` are known, but
  // refuse requests. When this returns, no request is pushed to a model that was served before and is not named now.
  // Where `refusal` is not OK, all requests for `name` are answered with it.
  void Publish(const std::string& name, const std::vector<std::shared_ptr<Model>>& models,
               const std::vector<int64_t>& not_ready, Status refusal = Status());
  void Withdraw(const std::string& name);

  void StopAccepting() { accepting_.store(false); }
  size_t in_flight() const;
  const Clock& clock() const { return *clock_; }
  const std::shared_ptr<Tracer>& tracer() const { return tracer_; }

  TimeNs Now() const override { return clock_->Now(); }
  const SharedMemoryRegistry& shared_memory() const override { return shared_memory_; }
  SharedMemoryRegistry& shared_memory() { return shared_memory_; }
  Status Resolve(Request& request) override;
  std::shared_ptr<InputRoom> RoomFor(const std::string& name, int64_t version) const override;
  void Submit(RequestPtr request) override;
  void Dispatch() override;
  void TakeAnswers() override;
  // What worker processes of its models ring; see worker/host.h.
  const std::shared_ptr<Doorbell>& doorbell() const { return doorbell_; }
  TimeNs NextExpiry() const override { return next_expiry_.load(std::memory_order_acquire); }
  void Listen(std::weak_ptr<ExpiryListener> listener) override;
  void NoteCancellation() override { cancellations_.store(true, std::memory_order_release); }

  // For ensembles. The model that a step means now: the one that is published, or (it is being unloaded, or its name is
  // that of several) the one that the step is bound to.
  StatusOr<std::shared_ptr<Model>> FindStep(const EnsemblePlan::Step& step) const;
  // As Submit, also when the server is stopping: what has begun goes on. `parent` is the trace of the ensemble's
  // request, or nullptr. Dispatched at the end of the burst.
  void SubmitStep(RequestPtr request, const EnsemblePlan::Step& step, const Trace* parent);
  // For models that call others. As Submit, also when the server is stopping: what has begun goes on. `parent` is the
  // trace that the call belongs to, or nullptr. Requires: Dispatch() is called afterwards. Returns the model that it
  // was pushed to; null where it was refused.
  std::shared_ptr<Model> SubmitCall(RequestPtr request, const Trace* parent);
  // The models whose instances execute requests for `name`: its own or, of an ensemble, those of its steps. Empty where
  // it is not served.
  std::vector<CallGraph::Callee> Executors(const std::string& name, int64_t version) const;
  CallGraph& calls() { return *calls_; }
  // Has the run advance at the end of the burst.
  void Resume(std::shared_ptr<EnsembleRun> run);
  void RunDeferred() override { Dispatch(); }

 private:
  struct Entry {
    std::map<int64_t, std::shared_ptr<Model>> versions;
    std::set<int64_t> not_ready;
    Status refusal;
  };

  // Requires: names_mutex_ is held.
  StatusOr<std::shared_ptr<Model>> FindLocked(const std::string& name, int64_t version) const;
  StatusOr<std::shared_ptr<Model>> FindStepLocked(const EnsemblePlan::Step& step) const;
  // Validates and queues. `step` is nullptr for a request that is no step of an ensemble. Where it is `internal`,
  // nobody looks after its time in the queue unless told.
  // Returns the model that it was pushed to, or null.
  std::shared_ptr<Model> Accept(RequestPtr request, const EnsemblePlan::Step* step, const Trace* parent, bool internal);
  void Touch(const std::shared_ptr<Model>& model);
  void Expire(TimeNs now);
  // True where it is earlier than all that were expected.
  bool ExpectExpiry(TimeNs deadline);
  void TellListeners();

  const std::shared_ptr<const Clock> clock_;
  SharedMemoryRegistry shared_memory_;
  std::shared_ptr<ResponseCache> cache_;  // null where there is none
  std::shared_ptr<RateLimiter> limiter_;  // null where executions are not limited
  const std::shared_ptr<Tracer> tracer_;
  const std::shared_ptr<Doorbell> doorbell_ = std::make_shared<Doorbell>();
  const std::shared_ptr<CallGraph> calls_ = std::make_shared<CallGraph>();
  std::atomic<bool> accepting_{true};
  std::atomic<bool> cancellations_{false};
  // No request's time in a queue is over before this; 0 for never.
  std::atomic<TimeNs> next_expiry_{0};

  std::mutex listeners_mutex_;
  std::vector<std::weak_ptr<ExpiryListener>> listeners_;

  mutable std::shared_mutex names_mutex_;
  std::unordered_map<std::string, Entry> names_;
  // Also those that are not served any more: what still waits there is cancelled and expires as anywhere.
  const std::shared_ptr<OccupiedModels> occupied_ = std::make_shared<OccupiedModels>();

  // Models that have been pushed to, and runs of ensembles that can go on, since the last Dispatch.
  std::mutex touched_mutex_;
  std::vector<std::shared_ptr<Model>> touched_;
  std::vector<std::shared_ptr<EnsembleRun>> resumed_;
};

}  // namespace pyinfer
