// SPDX-License-Identifier: Apache-2.0
#include "engine/model.h"

#include <utility>

#include "sched/request_queue.h"

namespace pyinfer {

std::shared_ptr<Model> Model::Create(ModelSpec spec, std::shared_ptr<const Clock> clock) {
  std::shared_ptr<Model> model(new Model(std::move(spec), std::move(clock)));
  model->source_ = MakeBatchSource(model->spec_, *model->clock_, model);
  return model;
}

Model::Model(ModelSpec spec, std::shared_ptr<const Clock> clock)
    : spec_(std::make_shared<const ModelSpec>(std::move(spec))), clock_(std::move(clock)) {}

Model::~Model() { Stop(); }

TimeNs Model::Push(RequestPtr request) {
  // Counted before it is queued: it may be answered before Push returns.
  in_flight_.fetch_add(1, std::memory_order_acq_rel);
  request->observer = shared_from_this();
  request->timeline.queued = clock_->Now();
  const TimeNs deadline = request->queue_deadline = QueueDeadline(spec_->queue, *request);
  source_->Push(std::move(request));
  return deadline;
}

void Model::Dispatch() {
  if (quick_) RunQuick();
  source_->Wake();
}

void Model::RunQuick() {
  NativeInstance& instance = *native_.front();
  std::unique_lock<std::mutex> running(instance.running, std::try_to_lock);
  if (!running.owns_lock()) return;
  for (;;) {
    Batch batch = source_->Take(instance.number, clock_->Now());
    if (batch.empty()) return;
    instance.executor->Execute(batch);
  }
}

Batch Model::NextBatch(size_t instance) {
  while (source_->Wait(instance)) {
    Batch batch = source_->Take(instance, clock_->Now());
    if (!batch.empty()) return batch;
  }
  return Batch();
}

void Model::Execute(NativeInstance& instance, Batch batch) {
  std::lock_guard<std::mutex> running(instance.running);
  instance.executor->Execute(batch);
}

Status Model::StartNative(const std::string& kind, const ExecutorParameters& parameters,
                          const std::vector<std::string>& names) {
  for (size_t i = 0; i < names.size(); ++i) {
    StatusOr<std::unique_ptr<Executor>> executor = MakeExecutor(kind, parameters, *spec_);
    if (!executor.ok()) return executor.status();
    auto instance = std::make_unique<NativeInstance>();
    instance->number = AddInstance();
    instance->executor = std::move(executor).value();
    native_.push_back(std::move(instance));
  }
  // A sequence has its place at one instance, which only the instance's own thread looks after.
  quick_ = !native_.empty() && native_.front()->executor->quick() && !spec_->sequence;
  for (auto& instance : native_) {
    instance->thread = std::thread([this, &instance = *instance] {
      for (;;) {
        Batch batch = NextBatch(instance.number);
        if (batch.empty()) return;
        Execute(instance, std::move(batch));
      }
    });
  }
  return Status();
}

bool Model::Drain(std::chrono::nanoseconds timeout) {
  source_->Close();
  draining_.store(true);
  std::unique_lock<std::mutex> lock(drained_mutex_);
  return drained_.wait_for(lock, timeout, [this] { return in_flight() == 0; });
}

void Model::Stop() {
  std::lock_guard<std::mutex> lock(stop_mutex_);
  source_->FailAll(Status::Unavailable("the model '" + spec_->name + "' is being unloaded"));
  for (auto& instance : native_) {
    if (instance->thread.joinable()) instance->thread.join();
  }
}

void Model::OnResponse(const Request&, const ResponseReport& report) noexcept { responses_.Add(report); }

void Model::OnAnswer(const Request& request, const Status& status) noexcept {
  statistics_.AddRequest(request, status, clock_->Now(), WallClockMs());
  if (in_flight_.fetch_sub(1) == 1 && draining_.load()) {
    std::lock_guard<std::mutex> lock(drained_mutex_);
    drained_.notify_all();
  }
}

void Model::OnExecuted(int64_t rows, const ExecutionTimes& times) noexcept { statistics_.AddExecution(rows, times); }

}  // namespace pyinfer
