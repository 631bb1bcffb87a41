// SPDX-License-Identifier: Apache-2.0
#include "engine/model.h"

#include <algorithm>
#include <utility>

#include "base/burst.h"
#include "engine/kept_response.h"
#include "sched/queued.h"
#include "sched/rate_limiter.h"
#include "sched/request_queue.h"

namespace pyinfer {
namespace {

// A model's own among all that this process loads.
std::string NextLoad() {
  static std::atomic<uint64_t> loads{0};
  return std::to_string(loads.fetch_add(1));
}

}  // namespace

std::shared_ptr<Model> Model::Create(ModelSpec spec, std::shared_ptr<const Clock> clock,
                                     std::shared_ptr<ResponseCache> cache, std::string origin) {
  return Create(
      std::move(spec), std::move(clock), std::move(cache), std::move(origin),
      [](const std::shared_ptr<Model>& model) { return MakeBatchSource(model->spec_, *model->clock_, model); });
}

std::shared_ptr<Model> Model::Create(ModelSpec spec, std::shared_ptr<const Clock> clock,
                                     std::shared_ptr<ResponseCache> cache, std::string origin,
                                     const SourceMaker& make) {
  if (!spec.cached || (cache && cache->remote() && origin.empty())) cache.reset();
  // A local one forgets what a model was before it was loaded again.
  if (cache && !cache->remote()) origin = NextLoad();
  std::shared_ptr<Model> model(new Model(std::move(spec), std::move(clock), std::move(cache), std::move(origin)));
  model->source_ = make(model);
  return model;
}

Model::Model(ModelSpec spec, std::shared_ptr<const Clock> clock, std::shared_ptr<ResponseCache> cache,
             std::string origin)
    : spec_(std::make_shared<const ModelSpec>(std::move(spec))),
      clock_(std::move(clock)),
      statistics_(spec_->statistics, clock_->Now()),
      cache_(std::move(cache)),
      origin_(std::move(origin)) {}

Model::~Model() { Stop(); }

TimeNs Model::Push(RequestPtr request) {
  // Counted before it is queued: it may be answered before Push returns.
  in_flight_.fetch_add(1);
  if (!is_listed_.load() && JoinOccupied() && occupied_) occupied_->Add(weak_from_this());
  request->observer = shared_from_this();
  request->timeline.queued = clock_->Now();
  if (cache_) source_->TakeTurn(*request);
  if (cache_ && AnswerFromCache(request)) return 0;
  const TimeNs deadline = spec_->sequence ? OwnDeadline(*request) : QueueDeadline(spec_->queue, *request);
  request->queue_deadline = deadline;
  if (cache_ && cache_->remote() && AskCache(request)) return deadline;
  source_->Push(std::move(request));
  return deadline;
}

bool Model::LeaveOccupied() {
  // In this order: a push counts its request first, so that it is seen here, or sees that it has to join.
  is_listed_.store(false);
  return in_flight_.load() == 0;
}

bool Model::AnswerFromCache(RequestPtr& request) {
  if (cache_->remote()) return false;
  std::optional<std::string> key = CacheKey(*request, origin_);
  if (!key) return false;
  std::optional<Response> kept = cache_->Find(*key);
  if (!kept) {
    NoteMiss(*request, std::move(*key));
    return false;
  }
  AnswerHit(std::move(request), std::move(*kept));
  return true;
}

void Model::AnswerHit(RequestPtr request, Response response) {
  Timeline& timeline = request->timeline;
  request->cache_ns = clock_->Now() - timeline.queued;
  request->cache_use = CacheUse::kHit;
  timeline.picked = timeline.packed = timeline.executed = timeline.split = timeline.queued;
  Conclude(std::move(request), std::move(response));
}

void Model::NoteMiss(Request& request, std::string key) {
  request.cache_ns = clock_->Now() - request.timeline.queued;
  request.cache_use = CacheUse::kMiss;
  // Kept apart from the request: its executor may write to the inputs.
  std::lock_guard<std::mutex> lock(awaited_mutex_);
  awaited_.emplace(&request, std::move(key));
}

bool Model::AskCache(RequestPtr& request) {
  std::optional<std::string> key = CacheKey(*request, origin_);
  if (!key) return false;
  uint64_t number;
  {
    std::lock_guard<std::mutex> lock(awaited_mutex_);
    number = ++last_asked_;
    const TimeNs deadline = request->queue_deadline;
    asked_.emplace(number, Asked{deadline, std::move(request)});
  }
  const auto found = [self = shared_from_this(), number, key = *key](std::optional<Response> kept) {
    self->OnFound(number, key, std::move(kept));
  };
  if (cache_->Ask(*key, found)) return true;
  request = TakeAsked(number);
  LeaveAsked(number);
  if (!request) return true;
  NoteMiss(*request, std::move(*key));
  return false;
}

RequestPtr Model::TakeAsked(uint64_t asked) {
  std::lock_guard<std::mutex> lock(awaited_mutex_);
  const auto found = asked_.find(asked);
  return found == asked_.end() ? nullptr : std::move(found->second.request);
}

void Model::LeaveAsked(uint64_t asked) {
  {
    std::lock_guard<std::mutex> lock(awaited_mutex_);
    asked_.erase(asked);
  }
  if (!draining_.load()) return;
  std::lock_guard<std::mutex> lock(drained_mutex_);
  drained_.notify_all();
}

void Model::OnFound(uint64_t asked, std::string key, std::optional<Response> kept) {
  RequestPtr request = TakeAsked(asked);
  if (!request) return;
  const TimeNs deadline = request->queue_deadline;
  if (kept && AnswersRequest(*request, *kept)) {
    AnswerHit(std::move(request), std::move(*kept));
  } else {
    NoteMiss(*request, std::move(key));
    // Whoever looks for those that are cancelled, or at their deadlines, may have looked just now.
    if (request->cancelled()) {
      request->Fail(FailureReason::kCancelled, Status::Cancelled());
    } else {
      source_->Push(std::move(request));
    }
    if (const TimeNs now = clock_->Now(); deadline != 0 && now >= deadline) source_->Expire(now);
    Dispatch();
  }
  LeaveAsked(asked);
}

void Model::ReapAsked() {
  std::vector<std::pair<uint64_t, RequestPtr>> cancelled;
  {
    std::lock_guard<std::mutex> lock(awaited_mutex_);
    for (auto& [number, asked] : asked_) {
      if (asked.request && asked.request->cancelled()) cancelled.emplace_back(number, std::move(asked.request));
    }
  }
  for (auto& [number, request] : cancelled) {
    request->Fail(FailureReason::kCancelled, Status::Cancelled());
    LeaveAsked(number);
  }
}

TimeNs Model::ExpireAsked(TimeNs now) {
  TimeNs next = 0;
  std::vector<std::pair<uint64_t, RequestPtr>> late;
  {
    std::lock_guard<std::mutex> lock(awaited_mutex_);
    for (auto& [number, asked] : asked_) {
      if (asked.deadline == 0) continue;
      if (asked.deadline > now) {
        next = next == 0 ? asked.deadline : std::min(next, asked.deadline);
      } else if (asked.request) {
        late.emplace_back(number, std::move(asked.request));
      }
    }
  }
  for (auto& [number, request] : late) {
    source_->Push(std::move(request));
    LeaveAsked(number);
  }
  return next;
}

TimeNs Model::Expire(TimeNs now) {
  // First: what is not there any more is in the queue.
  const TimeNs asked = cache_ && cache_->remote() ? ExpireAsked(now) : 0;
  const TimeNs next = source_->Expire(now);
  if (limiter_) limiter_->Reconsider();
  return asked != 0 && (next == 0 || asked < next) ? asked : next;
}

TimeNs Model::KeepAnswer(const Request& request, const Response& response) {
  std::string key;
  {
    std::lock_guard<std::mutex> lock(awaited_mutex_);
    const auto awaited = awaited_.find(&request);
    if (awaited == awaited_.end()) return 0;
    key = std::move(awaited->second);
    awaited_.erase(awaited);
  }
  if (!response.status.ok()) return 0;
  const TimeNs begun = clock_->Now();
  cache_->Insert(std::move(key), response);
  return clock_->Now() - begun;
}

void Model::Dispatch() {
  const Burst burst;  // what the answers bring with them comes when no lock of an instance is held
  if (NativeInstance* quick = quick_.load(std::memory_order_acquire)) RunQuick(*quick);
  if (lending_.offers_starters()) BeginBatches();
  source_->Wake();
}

void Model::RunQuick(NativeInstance& quick) {
  std::unique_lock<std::mutex> running(quick.running, std::try_to_lock);
  if (!running.owns_lock()) return;
  for (;;) {
    Batch batch = source_->Take(quick.number, clock_->Now());
    if (batch.empty()) return;
    quick.executor->Execute(batch);
  }
}

Batch Model::NextBatch(size_t instance, bool* begun) {
  for (;;) {
    const Found found = WaitForWork(instance);
    if (found == Found::kEnd) break;
    if (found == Found::kBegun) {
      *begun = true;
      return Batch();
    }
    Batch batch = limiter_ ? TakeLimited(instance, /*wait=*/true) : source_->Take(instance, clock_->Now());
    if (!batch.empty()) return batch;
  }
  if (limiter_) SetLimits(instance, nullptr);
  return Batch();
}

Batch Model::TakeNow(size_t instance) {
  return limiter_ ? TakeLimited(instance, /*wait=*/false) : source_->Take(instance, clock_->Now());
}

size_t Model::AddInstance(std::shared_ptr<LimitedInstance> limited) {
  instances_.fetch_add(1, std::memory_order_relaxed);
  const size_t instance = source_->AddInstance();
  SetLimits(instance, std::move(limited));
  return instance;
}

void Model::RemoveInstance(size_t instance) {
  instances_.fetch_sub(1, std::memory_order_relaxed);
  NoteRemoved(instance);
  source_->RemoveInstance(instance);
  if (limiter_) limiter_->Reconsider();
  if (calls_) calls_->Reconsider();
}

void Model::Reap() {
  if (cache_ && cache_->remote()) ReapAsked();
  source_->Reap();
  if (limiter_) limiter_->Reconsider();
}

void Model::Start(NativeInstance& instance, std::shared_ptr<LimitedInstance> limited) {
  instance.number = AddInstance(std::move(limited));
  instance.thread = std::thread([this, &instance] {
    for (;;) {
      Batch batch = NextBatch(instance.number);
      if (batch.empty()) break;
      std::lock_guard<std::mutex> running(instance.running);
      instance.executor->Execute(batch);
    }
    instance.ended.store(true, std::memory_order_release);
  });
}

Status Model::StartNative(const std::string& kind, const ExecutorParameters& parameters,
                          const std::vector<std::string>& names,
                          const std::vector<std::shared_ptr<LimitedInstance>>& limited) {
  const auto limits = [&](size_t index) { return index < limited.size() ? limited[index] : nullptr; };
  std::lock_guard<std::mutex> lock(stop_mutex_);
  if (stopped_) return Status::Unavailable("the model '" + spec_->name + "' is stopped");
  JoinEnded();
  std::vector<std::unique_ptr<NativeInstance>> more;
  for (size_t i = native_.size(); i < names.size(); ++i) {
    StatusOr<std::unique_ptr<Executor>> executor = MakeExecutor(kind, parameters, *spec_);
    if (!executor.ok()) return executor.status();
    more.push_back(std::make_unique<NativeInstance>());
    more.back()->executor = std::move(executor).value();
  }
  // A sequence has its place at one instance, which only the instance's own thread looks after.
  NativeInstance* first = native_.empty() ? (more.empty() ? nullptr : more.front().get()) : native_.front().get();
  // The thread that received requests does not wait for what others hold.
  const bool quick = first != nullptr && first->executor->quick() && !spec_->sequence && !limits(0);
  quick_.store(quick ? first : nullptr, std::memory_order_release);
  if (limiter_) {
    for (size_t i = 0; i < std::min(native_.size(), names.size()); ++i) SetLimits(native_[i]->number, limits(i));
  }
  for (auto& instance : more) {
    Start(*instance, limits(native_.size()));
    native_.push_back(std::move(instance));
  }
  while (native_.size() > std::max<size_t>(1, names.size())) {
    RemoveInstance(native_.back()->number);
    leaving_.push_back(std::move(native_.back()));
    native_.pop_back();
  }
  return Status();
}

void Model::JoinEnded() {
  const auto ended = [](const std::unique_ptr<NativeInstance>& instance) {
    if (!instance->ended.load(std::memory_order_acquire)) return false;
    instance->thread.join();
    return true;
  };
  leaving_.erase(std::remove_if(leaving_.begin(), leaving_.end(), ended), leaving_.end());
}

bool Model::Drain(std::chrono::nanoseconds timeout) {
  const auto until = std::chrono::steady_clock::now() + timeout;
  draining_.store(true);
  std::unique_lock<std::mutex> lock(drained_mutex_);
  // What is on its way from the cache to the queue was accepted.
  drained_.wait_until(lock, until, [this] {
    std::lock_guard<std::mutex> asked(awaited_mutex_);
    return asked_.empty();
  });
  lock.unlock();
  source_->Close();
  lock.lock();
  return drained_.wait_until(lock, until, [this] { return in_flight() == 0; });
}

void Model::Stop() {
  std::lock_guard<std::mutex> lock(stop_mutex_);
  stopped_ = true;
  source_->FailAll(Status::Unavailable("the model '" + spec_->name + "' is being unloaded"));
  if (limiter_) limiter_->Reconsider();
  for (const auto* instances : {&native_, &leaving_}) {
    for (const auto& instance : *instances) {
      if (instance->thread.joinable()) instance->thread.join();
    }
  }
}

void Model::OnResponse(const Request& request, const ResponseReport& report) noexcept {
  responses_.Add(report);
  if (report.index == 0) statistics_.AddFirstResponse(request.timeline.received, report.checked);
}

void Model::OnAnswer(const Request& request, const Response& response) noexcept {
  const TimeNs keeping = request.cache_use == CacheUse::kMiss ? KeepAnswer(request, response) : 0;
  statistics_.AddRequest(request, response.status, clock_->Now(), WallClockMs(), request.cache_ns + keeping);
  if (in_flight_.fetch_sub(1) == 1 && draining_.load()) {
    std::lock_guard<std::mutex> lock(drained_mutex_);
    drained_.notify_all();
  }
}

void Model::OnExecuted(int64_t rows, const ExecutionTimes& times) noexcept {
  statistics_.AddExecution(rows, times);
  source_->NoteExecuted(rows, times.picked, times.split);
}

void Model::OnRescheduled(RequestPtr request) noexcept {
  source_->Return(std::move(request));
  source_->Wake();
}

}  // namespace pyinfer
