// SPDX-License-Identifier: Apache-2.0
// model.h - one version of one model: its queue, its instances, its statistics. Any thread, except where told.
//
// A model accepts requests until Drain() or Stop(). Its instances pull batches: those of native executors on threads of
// the core, others wherever NextBatch() is called from.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine/call_graph.h"
#include "engine/lending.h"
#include "engine/occupied.h"
#include "engine/response_cache.h"
#include "engine/response_statistics.h"
#include "engine/statistics.h"
#include "memory/input_room.h"
#include "sched/batch_source.h"
#include "sched/executor.h"

namespace pyinfer {

class LimitedInstance;
class RateLimiter;

class Model final : public RequestObserver,
                    public ExecutionObserver,
                    public CallNode,
                    public std::enable_shared_from_this<Model> {
 public:
  // Makes the source of a model that is its observer.
  using SourceMaker = std::function<std::shared_ptr<BatchSource>(const std::shared_ptr<Model>&)>;

  // With the source that `spec` is configured for. Answers of a model whose `spec` says so are kept in `cache`, if
  // there is one; in a remote one only with `origin`, which is another one where the model is, in every process.
  static std::shared_ptr<Model> Create(ModelSpec spec, std::shared_ptr<const Clock> clock,
                                       std::shared_ptr<ResponseCache> cache = nullptr, std::string origin = "");
  static std::shared_ptr<Model> Create(ModelSpec spec, std::shared_ptr<const Clock> clock,
                                       std::shared_ptr<ResponseCache> cache, std::string origin,
                                       const SourceMaker& make);
  // Has instances hold what they need while they execute. Requires: there is no instance yet.
  void SetRateLimiter(std::shared_ptr<RateLimiter> limiter) { limiter_ = std::move(limiter); }
  // Has the model be among `occupied` as long as it has requests. Requires: there is no request yet.
  void SetOccupied(std::shared_ptr<OccupiedModels> occupied) { occupied_ = std::move(occupied); }
  // Has calls that nobody could answer refused when instances go. Requires: there is no instance yet.
  void SetCalls(std::shared_ptr<CallGraph> calls) { calls_ = std::move(calls); }
  // Null where nothing is limited.
  const std::shared_ptr<RateLimiter>& rate_limiter() const { return limiter_; }
  ~Model() override;

  const std::shared_ptr<const ModelSpec>& spec() const { return spec_; }
  const Clock& clock() const { return *clock_; }

  // Queues a validated request, or answers it with the reason why not. Requires: Dispatch() is called afterwards.
  // Returns when its time in the queue is over; 0 for never.
  TimeNs Push(RequestPtr request);

  // Gets what was pushed going: runs or begins it here where that takes no time, or wakes an instance.
  void Dispatch();
  // Completes what was begun here (Dispatch) and is answered, and begins what waits. For whoever hears the doorbell
  // that worker processes ring.
  void TakeAnswers();
  void Reap();
  TimeNs Expire(TimeNs now);

  // One more instance that will call NextBatch; its number. `limited`: what it needs to hold while it executes, entered
  // into the limiter of this model; null where it needs nothing.
  size_t AddInstance(std::shared_ptr<LimitedInstance> limited = nullptr);
  // Lets its NextBatch return an empty batch once what it has begun is done; others take what is queued.
  void RemoveInstance(size_t instance);
  size_t instances() const override { return instances_.load(std::memory_order_relaxed); }
  bool takes_batches(size_t instance) const override;
  // What an instance needs to hold while it executes; null where it needs nothing.
  std::shared_ptr<LimitedInstance> LimitsOf(size_t instance) const;
  std::vector<std::shared_ptr<const LimitedInstance>> Limits() const override;
  // Blocks until there is a batch; an empty one once the model is stopped, or the instance removed. For the thread of
  // an instance.
  Batch NextBatch(size_t instance) { return NextBatch(instance, nullptr); }
  // The same for an instance that LetBegin was called for. Where a batch was begun for it meanwhile, nothing is
  // returned, and `begun` is true: that batch comes next.
  Batch NextBatch(size_t instance, bool* begun);
  // Lets whoever brings requests hand a batch to `starter` while the instance's thread is in NextBatch with nothing to
  // do. Not where the instance is limited or keeps sequences, or inputs are padded. For the thread of the instance,
  // which then asks by the NextBatch above; `starter` is not called any more once StopLending returns, which it must
  // have called when it ends.
  void LetBegin(size_t instance, BatchStarter& starter);
  // Has large inputs be received in `room`, where the model's instances read them, be it one of them or all. Not where
  // something else reads them before: they are padded, or answers are kept by what was asked. Any thread.
  void SetInputRoom(std::shared_ptr<InputRoom> room);
  // Null where there is none.
  std::shared_ptr<InputRoom> input_room() const { return std::atomic_load(&input_room_); }
  // Lets threads that call this model and wait run `instance` while its own thread is in NextBatch with nothing to do.
  // Not where the instance is limited, or keeps sequences. See model_lending.cc. For the thread of the instance;
  // `runner` is not called any more once StopLending returns, which it must have called when it ends.
  void Lend(size_t instance, BatchRunner& runner);
  void StopLending(size_t instance) { lending_.Withdraw(instance); }
  // What is ripe now, with an instance to run it on this thread; an empty batch where no instance rests, or nothing is
  // ripe. For whoever has pushed a request that it will wait for, between Push and Dispatch, with no Burst open. A
  // batch that is there is to be handed to RunHere, after Dispatch.
  struct BorrowedBatch {
    InstanceLending::Lent lent;
    Batch batch;
  };
  BorrowedBatch Borrow();
  void RunHere(BorrowedBatch borrowed);
  // The batch that is ripe now, possibly none.
  // An instance that has to wait for what others hold is in line from then on.
  Batch TakeNow(size_t instance);
  TimeNs RipeAt(size_t instance, TimeNs now) const { return source_->RipeAt(instance, now); }

  // Has one thread for each name pull batches into an executor of its own. Called again (with the same kind and
  // parameters), starts further threads or lets those too many end; the first one always stays. `limited`: of each, as
  // of AddInstance; empty where none needs anything.
  Status StartNative(const std::string& kind, const ExecutorParameters& parameters,
                     const std::vector<std::string>& names,
                     const std::vector<std::shared_ptr<LimitedInstance>>& limited = {});

  // Accepts nothing more; waits until everything accepted is answered. False when the time is up.
  bool Drain(std::chrono::nanoseconds timeout);
  // Answers what is queued with UNAVAILABLE, ends NextBatch() for all, joins the core's threads. Idempotent.
  void Stop();

  // For OccupiedModels, which is who calls them: true where it has no request and is out; true where it was out, and is
  // to be added.
  bool LeaveOccupied();
  bool JoinOccupied() { return !is_listed_.exchange(true); }

  bool cached() const { return cache_ != nullptr; }
  size_t pending() const { return source_->size(); }
  size_t in_flight() const { return in_flight_.load(std::memory_order_acquire); }
  std::optional<SloReport> Slo() const { return source_->Slo(); }
  ModelStatistics Statistics() const { return statistics_.Snapshot(); }
  ModelMetrics Metrics() { return statistics_.Metrics(clock_->Now()); }
  std::vector<ResponseStatistics> ResponseStatisticsByIndex() const { return responses_.Snapshot(); }

  void OnResponse(const Request& request, const ResponseReport& report) noexcept override;
  void OnAnswer(const Request& request, const Response& response) noexcept override;
  void OnExecuted(int64_t rows, const ExecutionTimes& times) noexcept override;
  void OnRescheduled(RequestPtr request) noexcept override;
  void OnReleased(const CorrelationId& sequence) noexcept override { source_->Release(sequence); }

 private:
  // An executor and the lock that makes it run one batch at a time.
  struct NativeInstance {
    size_t number = 0;
    std::unique_ptr<Executor> executor;
    std::mutex running;
    std::atomic<bool> ended{false};
    std::thread thread;
  };

  // A request for which a remote cache is being asked.
  struct Asked {
    TimeNs deadline = 0;  // 0: none
    RequestPtr request;   // null while it is on its way to somewhere else
  };

  Model(ModelSpec spec, std::shared_ptr<const Clock> clock, std::shared_ptr<ResponseCache> cache, std::string origin);
  // False where the cache has no answer; then `request` is still there.
  bool AnswerFromCache(RequestPtr& request);
  // Takes `request` until a remote cache has been asked, no longer than its patience. False, and the request is still
  // there, where nobody is asked.
  bool AskCache(RequestPtr& request);
  void OnFound(uint64_t asked, std::string key, std::optional<Response> kept);
  // Null where it was answered meanwhile. Requires that LeaveAsked follows once the request is somewhere else.
  RequestPtr TakeAsked(uint64_t asked);
  void LeaveAsked(uint64_t asked);
  void ReapAsked();
  // When the next of them has waited for too long; 0 for never. Those that have are in the queue afterwards.
  TimeNs ExpireAsked(TimeNs now);
  void AnswerHit(RequestPtr request, Response response);
  void NoteMiss(Request& request, std::string key);
  // Keeps the answer of a request that was not in the cache; how long that took.
  TimeNs KeepAnswer(const Request& request, const Response& response);
  void Start(NativeInstance& instance, std::shared_ptr<LimitedInstance> limited);
  void JoinEnded();
  void RunQuick(NativeInstance& instance);
  // As the source's Wait; nobody else has the instance when this returns.
  enum class Found { kMaybe, kBegun, kEnd };
  Found WaitForWork(size_t instance);
  // Whether a batch was begun for the instance, whose thread watched for its answer; it may have had no reason to.
  bool WatchForAnswer(size_t instance);
  // Watches for as long as others complete what they begin.
  void WatchOthers(size_t instance, BatchStarter& starter);
  void BeginBatches();
  // See model_limits.cc.
  void SetLimits(size_t instance, std::shared_ptr<LimitedInstance> limited);
  void NoteRemoved(size_t instance);
  // Requires: limiter_ is not null.
  Batch TakeLimited(size_t instance, bool wait);

  const std::shared_ptr<const ModelSpec> spec_;
  const std::shared_ptr<const Clock> clock_;
  std::shared_ptr<BatchSource> source_;  // set once, by Create
  StatisticsCollector statistics_;
  const std::shared_ptr<ResponseCache> cache_;  // null where answers are not kept
  const std::string origin_;                    // what keys tell this model from others by
  std::mutex awaited_mutex_;
  std::map<uint64_t, Asked> asked_;
  uint64_t last_asked_ = 0;
  std::unordered_map<const Request*, std::string> awaited_;  // keys of requests that were not in the cache
  ResponseStatisticsCollector responses_;

  // Guarded by stop_mutex_: those that run, and those that are to end.
  std::vector<std::unique_ptr<NativeInstance>> native_;
  std::vector<std::unique_ptr<NativeInstance>> leaving_;
  // The first of them where the thread that received requests may run it.
  std::atomic<NativeInstance*> quick_{nullptr};

  InstanceLending lending_;
  std::shared_ptr<InputRoom> input_room_;  // read and written atomically

  std::shared_ptr<OccupiedModels> occupied_;  // null where nobody looks after its requests
  std::shared_ptr<CallGraph> calls_;          // null where no calls are made
  std::shared_ptr<RateLimiter> limiter_;      // null where executions are not limited
  mutable std::mutex limits_mutex_;
  struct InstanceEntry {
    std::shared_ptr<LimitedInstance> limits;  // null where it needs nothing
    bool removed = false;
  };
  std::vector<InstanceEntry> entries_;  // by instance

  std::atomic<size_t> in_flight_{0};
  std::atomic<bool> is_listed_{false};  // among those of occupied_, or about to be
  std::atomic<size_t> instances_{0};
  std::atomic<bool> draining_{false};
  std::mutex drained_mutex_;
  std::condition_variable drained_;
  std::mutex stop_mutex_;
  bool stopped_ = false;
};

}  // namespace pyinfer
