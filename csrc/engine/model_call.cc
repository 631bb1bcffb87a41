// SPDX-License-Identifier: Apache-2.0
#include "engine/model_call.h"

#include <algorithm>
#include <utility>

namespace pyinfer {

void CallOrigin::AddParent(const CallParent& parent, TimeNs now) {
  parents.push_back(parent.sink);
  depth = std::max(depth, parent.depth + 1);
  if (parent.timeout_us == 0) {
    has_all_time = true;
    return;
  }
  const auto spent = static_cast<uint64_t>(std::max<TimeNs>(0, now - parent.queued)) / 1000;
  rest_us = std::max<uint64_t>(rest_us, parent.timeout_us > spent ? parent.timeout_us - spent : 1);
}

Status CallRefusal(const std::string& model, const Status& reason) {
  return Status::Internal("Model " + model + " - Error when running inference: " + reason.message());
}

namespace {

Status ForEverStatus(const std::string& caller, const std::string& callee) {
  return Status::Unavailable("model '" + caller + "' would wait for ever for model '" + callee +
                             "': all instances that could execute the call wait for others like it, or its answer "
                             "(preserve_ordering) for theirs; configure more instances of these models");
}

}  // namespace

void ModelCall::StopWaiting() {
  if (const uint64_t wait = wait_.exchange(0)) engine_->calls().Leave(wait);
}

Status ModelCall::Enter(Request& request, const CallOrigin& origin, bool decoupled) {
  Status status = engine_->Resolve(request);
  if (!status.ok()) {
    if (of_client_) return status;
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
  caller_ = origin.model->spec();
  CallGraph::Caller caller{origin.model, origin.instance, nullptr, weak_from_this()};
  if (origin.model->rate_limiter()) caller.holder = origin.model->LimitsOf(origin.instance);
  const std::optional<uint64_t> wait =
      engine_->calls().Enter(std::move(caller), engine_->Executors(request.model_name, request.model_version));
  if (wait) {
    wait_ = *wait;
    return Status();
  }
  return ForEverStatus(caller_->name, name);
}

void ModelCall::Start(RequestPtr request, const CallOrigin& origin, bool decoupled) {
  const TimeNs now = engine_->Now();
  request->timeline.receiving = request->timeline.received = now;
  of_client_ = origin.of_client;
  parents_ = origin.parents;
  request->call_depth = origin.depth;
  if (request->timeout_us == 0 && !origin.has_all_time) request->timeout_us = origin.rest_us;
  request->more_follow = !origin.dispatch;
  for (const Tensor& input : request->inputs) inputs_.push_back(input.data);
  const Status refusal = Enter(*request, origin, decoupled);
  if (!refusal.ok()) return request->Fail(FailureReason::kOther, refusal);
  const std::shared_ptr<Model> callee = engine_->SubmitCall(std::move(request), origin.trace.get());
  if (!origin.dispatch) return;
  Model::BorrowedBatch borrowed;
  if (origin.runs_callee && callee) borrowed = callee->Borrow();
  engine_->Dispatch();
  // What the queue had first may have been another request; then the answer is still to be waited for.
  if (!borrowed.batch.empty()) callee->RunHere(std::move(borrowed));
}

void ModelCall::Send(const Request& request, Response response, bool final) noexcept {
  // One that was never queued. Models read these words, and this code, where Triton runs them.
  if (!response.status.ok() && !request.observer && !of_client_) {
    response.status = CallRefusal(request.model_name, response.status);
  }
  if (refused_ && response.status.code() == Code::kCancelled) {
    response.status = CallRefusal(request.model_name, ForEverStatus(caller_->name, request.model->name));
  }
  for (Tensor& output : response.outputs) {
    for (const Slice& input : inputs_) {
      const uint8_t* const at = output.data.data();
      if (at >= input.data() && at < input.data() + input.size()) output.shared = true;
    }
  }
  if (final) StopWaiting();
  Deliver(std::move(response), final);
}

void ModelCall::Cancel() {
  if (cancelled_.exchange(true)) return;
  engine_->NoteCancellation();
  engine_->Dispatch();
}

void ModelCall::Refuse() noexcept {
  refused_ = true;
  Cancel();
}

void ModelCall::Abandon() {
  StopWaiting();
  Cancel();
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
