// SPDX-License-Identifier: Apache-2.0
#include "engine/model_call.h"

#include <algorithm>
#include <utility>

namespace pyinfer {
namespace {

// What is left of the time that the parents have in a queue, in microseconds; 0 where one of them has all the time.
uint64_t RestOfTime(const std::vector<const Request*>& parents, TimeNs now) {
  uint64_t most = 0;
  for (const Request* parent : parents) {
    if (parent->timeout_us == 0) return 0;
    const auto spent = static_cast<uint64_t>(std::max<TimeNs>(0, now - parent->timeline.queued)) / 1000;
    most = std::max<uint64_t>(most, parent->timeout_us > spent ? parent->timeout_us - spent : 1);
  }
  return most;
}

}  // namespace

ModelCall::~ModelCall() {
  if (wait_) engine_->calls().Leave(*wait_);
}

Status ModelCall::Enter(Request& request, const CallOrigin& origin, bool decoupled) {
  Status status = engine_->Resolve(request);
  if (!status.ok()) {
    return {status.code(),
            "Failed for execute the inference request. Model '" + request.model_name + "' is not ready."};
  }
  const std::string name = request.model->name;
  if (request.model->decoupled && !decoupled) {
    return Status::Unsupported(
        "Model " + name +
        " is using the decoupled. The current BLS request call doesn't support models using the decoupled transaction "
        "policy. Please use 'decoupled=True' argument to the 'exec' or 'async_exec' calls for decoupled models.'");
  }
  if (request.call_depth > kMaxDepth) {
    return Status::InvalidArg("model '" + name +
                              "' is called by a model that was called by another, and so on, more than " +
                              std::to_string(kMaxDepth) + " times");
  }
  if (!origin.model) return Status();
  std::vector<CallGraph::Node> callees;
  for (const auto& model : engine_->Executors(request.model_name, request.model_version))
    callees.push_back(model.get());
  wait_ = engine_->calls().Enter({origin.model.get(), origin.instance, origin.model->instances()}, std::move(callees));
  if (wait_) return Status();
  return Status::Unavailable("model '" + origin.model->spec()->name + "' would wait for ever for model '" + name +
                             "': all instances that could execute the call wait for others like it; configure more "
                             "instances of these models");
}

void ModelCall::Start(RequestPtr request, const CallOrigin& origin, bool decoupled) {
  const TimeNs now = engine_->Now();
  request->timeline.receiving = request->timeline.received = now;
  for (const Request* parent : origin.parents) {
    parents_.push_back(parent->sink());
    request->call_depth = std::max(request->call_depth, parent->call_depth + 1);
  }
  if (request->timeout_us == 0) request->timeout_us = RestOfTime(origin.parents, now);
  for (const Tensor& input : request->inputs) inputs_.push_back(input.data);
  const Status refusal = Enter(*request, origin, decoupled);
  if (!refusal.ok()) return request->Fail(FailureReason::kOther, refusal);
  engine_->SubmitCall(std::move(request), origin.trace.get());
  engine_->Dispatch();
}

void ModelCall::Send(const Request& request, Response response, bool final) noexcept {
  // One that was never queued. Models read these words, and this code, where Triton runs them.
  if (!response.status.ok() && !request.observer) {
    response.status = Status::Internal("Model " + request.model_name +
                                       " - Error when running inference: " + response.status.message());
  }
  for (Tensor& output : response.outputs) {
    for (const Slice& input : inputs_) {
      const uint8_t* const at = output.data.data();
      if (at >= input.data() && at < input.data() + input.size()) output.shared = true;
    }
  }
  if (final && wait_) engine_->calls().Leave(*std::exchange(wait_, std::nullopt));
  std::lock_guard<std::mutex> lock(mutex_);
  items_.push_back({std::move(response), final});
  final_ = final;
  arrived_.notify_all();
  if (final && mailbox_) std::exchange(mailbox_, nullptr)->Post(number_);
}

std::optional<ModelCall::Item> ModelCall::TakeLocked() {
  if (items_.empty()) return std::nullopt;
  Item item = std::move(items_.front());
  items_.pop_front();
  return item;
}

std::optional<ModelCall::Item> ModelCall::Next() {
  std::unique_lock<std::mutex> lock(mutex_);
  arrived_.wait(lock, [&] { return !items_.empty() || final_; });
  return TakeLocked();
}

std::optional<ModelCall::Item> ModelCall::Poll() {
  std::lock_guard<std::mutex> lock(mutex_);
  return TakeLocked();
}

bool ModelCall::ended() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return final_;
}

void ModelCall::Notify(std::shared_ptr<CallMailbox> mailbox, uint64_t number) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (final_) return mailbox->Post(number);
  mailbox_ = std::move(mailbox);
  number_ = number;
}

void ModelCall::Cancel() {
  if (cancelled_.exchange(true)) return;
  engine_->NoteCancellation();
  engine_->Dispatch();
}

bool ModelCall::cancelled() const noexcept {
  if (cancelled_.load(std::memory_order_acquire)) return true;
  // A parent that is answered does not care any more, but did not cancel either.
  return !parents_.empty() && std::all_of(parents_.begin(), parents_.end(), [](const auto& weak) {
    const auto parent = weak.lock();
    return parent && parent->cancelled();
  });
}

}  // namespace pyinfer
