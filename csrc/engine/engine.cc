// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <algorithm>
#include <utility>

#include "engine/ensemble.h"
#include "engine/ensemble_run.h"
#include "infer/shared_memory.h"
#include "infer/validate.h"

namespace pyinfer {

std::shared_ptr<Model> Engine::CreateModel(ModelSpec spec, const std::vector<std::shared_ptr<Model>>& steps,
                                           std::string cache_origin) {
  const auto compose = [&](const std::shared_ptr<Model>& model) {
    return std::make_shared<Ensemble>(model->spec(), steps, weak_from_this(), clock_, model);
  };
  const bool is_ensemble = spec.ensemble.has_value();
  std::shared_ptr<Model> model = is_ensemble ? Model::Create(std::move(spec), clock_, cache_, "", compose)
                                             : Model::Create(std::move(spec), clock_, cache_, std::move(cache_origin));
  if (!is_ensemble) model->SetRateLimiter(limiter_);
  model->SetOccupied(occupied_);
  model->SetCalls(calls_);
  return model;
}

void Engine::Publish(const std::string& name, const std::vector<std::shared_ptr<Model>>& models,
                     const std::vector<int64_t>& not_ready, Status refusal) {
  Entry entry;
  entry.refusal = std::move(refusal);
  for (const auto& model : models) entry.versions[model->spec()->version] = model;
  entry.not_ready.insert(not_ready.begin(), not_ready.end());
  std::unique_lock<std::shared_mutex> lock(names_mutex_);
  // The replaced entry is destroyed after the lock: a model's last owner joins its threads.
  std::swap(names_[name], entry);
  lock.unlock();
}

void Engine::Withdraw(const std::string& name) {
  std::unique_lock<std::shared_mutex> lock(names_mutex_);
  const auto node = names_.extract(name);
  lock.unlock();
}

size_t Engine::in_flight() const {
  std::shared_lock<std::shared_mutex> lock(names_mutex_);
  size_t count = 0;
  for (const auto& [name, entry] : names_) {
    for (const auto& [version, model] : entry.versions) count += model->in_flight();
  }
  return count;
}

StatusOr<std::shared_ptr<Model>> Engine::FindLocked(const std::string& name, int64_t version) const {
  const auto unknown = [&](const std::string& what) { return "Request for unknown model: '" + name + "' " + what; };
  const auto found = names_.find(name);
  if (found == names_.end()) return Status::NotFound(unknown("is not found"));
  const Entry& entry = found->second;
  if (!entry.refusal.ok()) return entry.refusal;
  if (version == -1) {
    if (entry.versions.empty()) return Status::NotFound(unknown("has no available versions"));
    return entry.versions.rbegin()->second;
  }
  const auto served = entry.versions.find(version);
  if (served != entry.versions.end()) return served->second;
  const std::string which = "version " + std::to_string(version);
  if (entry.not_ready.count(version) != 0) return Status::Unavailable(unknown(which + " is not at ready state"));
  return Status::NotFound(unknown(which + " is not found"));
}

Status Engine::Resolve(Request& request) {
  std::shared_lock<std::shared_mutex> lock(names_mutex_);
  StatusOr<std::shared_ptr<Model>> model = FindLocked(request.model_name, request.model_version);
  if (!model.ok()) return model.status();
  request.model = model.value()->spec();
  return Status();
}

std::shared_ptr<InputRoom> Engine::RoomFor(const std::string& name, int64_t version) const {
  std::shared_lock<std::shared_mutex> lock(names_mutex_);
  const StatusOr<std::shared_ptr<Model>> model = FindLocked(name, version);
  return model.ok() ? model.value()->input_room() : nullptr;
}

void Engine::Submit(RequestPtr request) {
  if (!accepting_.load(std::memory_order_relaxed)) {
    return request->Fail(FailureReason::kRejected,
                         Status::Unavailable("Server is stopping, scheduler for model has stopped accepting new "
                                             "inference requests"));
  }
  Accept(std::move(request), nullptr, nullptr, /*internal=*/false);
}

void Engine::SubmitStep(RequestPtr request, const EnsemblePlan::Step& step, const Trace* parent) {
  Accept(std::move(request), &step, parent, /*internal=*/true);
  Burst::AtEnd(shared_from_this());
}

std::shared_ptr<Model> Engine::SubmitCall(RequestPtr request, const Trace* parent) {
  return Accept(std::move(request), nullptr, parent, /*internal=*/true);
}

std::vector<CallGraph::Callee> Engine::Executors(const std::string& name, int64_t version) const {
  std::vector<CallGraph::Callee> found;
  std::vector<std::shared_ptr<Model>> waiting;
  std::shared_lock<std::shared_mutex> lock(names_mutex_);
  if (auto model = FindLocked(name, version); model.ok()) waiting.push_back(std::move(model).value());
  while (!waiting.empty()) {
    const std::shared_ptr<Model> model = std::move(waiting.back());
    waiting.pop_back();
    if (!model->spec()->ensemble) {
      const ModelSpec& spec = *model->spec();
      found.push_back({model, spec.batching.preserve_ordering || spec.sequence});
      continue;
    }
    for (const EnsembleStep& step : model->spec()->ensemble->steps) {
      if (auto next = FindLocked(step.model, step.version); next.ok()) waiting.push_back(std::move(next).value());
    }
  }
  return found;
}

std::shared_ptr<Model> Engine::Accept(RequestPtr request, const EnsemblePlan::Step* step, const Trace* parent,
                                      bool internal) {
  const auto find = [&] {
    return step ? FindStepLocked(*step) : FindLocked(request->model_name, request->model_version);
  };
  Status refusal;
  if (!request->model) {
    std::shared_lock<std::shared_mutex> lock(names_mutex_);
    StatusOr<std::shared_ptr<Model>> found = find();
    if (found.ok()) request->model = found.value()->spec();
    refusal = found.status();
  }
  while (refusal.ok()) {
    // Tensors may be large: they are looked at without the lock, and again if the model was replaced meanwhile.
    refusal = ValidateRequest(*request);
    if (refusal.ok() && request->uses_shared_memory && !request->model->device_inputs) {
      refusal = MoveInputsToHost(*request);
    }
    if (!refusal.ok()) break;
    if (parent != nullptr) {
      if (!request->trace) tracer_->BeginStep(*request, *parent);
    } else if (!internal && tracer_->enabled() && !request->trace) {  // others are parts of a trace, or of none
      tracer_->Begin(*request);
    }
    // Held over the push, so that Publish can promise that nothing reaches a replaced model afterwards.
    std::shared_lock<std::shared_mutex> lock(names_mutex_);
    StatusOr<std::shared_ptr<Model>> found = find();
    if (!found.ok()) {
      refusal = found.status();
      break;
    }
    std::shared_ptr<Model>& model = found.value();
    if (model->spec() == request->model) {
      ReshapeInputs(*request);
      const bool earlier = ExpectExpiry(model->Push(std::move(request)));
      Touch(model);
      lock.unlock();
      if (earlier && internal) TellListeners();
      return std::move(model);
    }
    request->model = model->spec();
  }
  request->Fail(FailureReason::kOther, std::move(refusal));
  return nullptr;
}

StatusOr<std::shared_ptr<Model>> Engine::FindStepLocked(const EnsemblePlan::Step& step) const {
  StatusOr<std::shared_ptr<Model>> found = FindLocked(step.model, step.version);
  if (found.ok()) return found;
  if (auto bound = step.bound.lock()) return bound;
  return found;
}

StatusOr<std::shared_ptr<Model>> Engine::FindStep(const EnsemblePlan::Step& step) const {
  std::shared_lock<std::shared_mutex> lock(names_mutex_);
  return FindStepLocked(step);
}

void Engine::Resume(std::shared_ptr<EnsembleRun> run) {
  {
    std::lock_guard<std::mutex> lock(touched_mutex_);
    resumed_.push_back(std::move(run));
  }
  Burst::AtEnd(shared_from_this());
}

void Engine::Touch(const std::shared_ptr<Model>& model) {
  std::lock_guard<std::mutex> lock(touched_mutex_);
  if (std::find(touched_.begin(), touched_.end(), model) == touched_.end()) touched_.push_back(model);
}

bool Engine::ExpectExpiry(TimeNs deadline) {
  if (deadline == 0) return false;
  TimeNs known = next_expiry_.load(std::memory_order_relaxed);
  while (known == 0 || deadline < known) {
    if (next_expiry_.compare_exchange_weak(known, deadline, std::memory_order_acq_rel)) return true;
  }
  return false;
}

void Engine::Listen(std::weak_ptr<ExpiryListener> listener) {
  std::lock_guard<std::mutex> lock(listeners_mutex_);
  const auto gone = [](const std::weak_ptr<ExpiryListener>& one) { return one.expired(); };
  listeners_.erase(std::remove_if(listeners_.begin(), listeners_.end(), gone), listeners_.end());
  listeners_.push_back(std::move(listener));
}

void Engine::TellListeners() {
  std::vector<std::weak_ptr<ExpiryListener>> listeners;
  {
    std::lock_guard<std::mutex> lock(listeners_mutex_);
    listeners = listeners_;
  }
  for (const auto& weak : listeners) {
    if (const auto listener = weak.lock()) listener->OnEarlierExpiry();
  }
}

void Engine::Expire(TimeNs now) {
  // Requests that are pushed while the models are looked at lower it again.
  next_expiry_.store(0, std::memory_order_release);
  for (const auto& model : occupied_->Find()) ExpectExpiry(model->Expire(now));
}

void Engine::TakeAnswers() {
  const Burst burst;
  for (const auto& model : occupied_->Find()) model->TakeAnswers();
}

void Engine::Dispatch() {
  const Burst burst;
  if (cancellations_.exchange(false, std::memory_order_acq_rel)) {
    for (const auto& model : occupied_->Find()) model->Reap();
  }
  if (const TimeNs expiry = NextExpiry(); expiry != 0) {
    if (const TimeNs now = clock_->Now(); now >= expiry) Expire(now);
  }
  std::vector<std::shared_ptr<EnsembleRun>> resumed;
  std::vector<std::shared_ptr<Model>> touched;
  {
    std::lock_guard<std::mutex> lock(touched_mutex_);
    resumed.swap(resumed_);
    touched.swap(touched_);
  }
  for (const auto& run : resumed) run->Advance();
  for (const auto& model : touched) model->Dispatch();
}

}  // namespace pyinfer
