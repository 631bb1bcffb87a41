// SPDX-License-Identifier: Apache-2.0
#include "sched/responder.h"

#include <utility>

#include "infer/validate.h"

namespace pyinfer {

Responder::Responder(RequestPtr request, const Clock& clock)
    : clock_(clock), decoupled_(request->model->decoupled), request_(std::move(request)) {}

Responder::~Responder() {
  if (ended()) return;
  Fail(Status::Internal("the model '" + request_->model->name + "' dropped a request before its last response"),
       /*final=*/true);
}

bool Responder::Send(std::vector<Tensor> outputs, Parameters parameters, bool final) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!request_) return false;
  SendLocked(MakeResponse(*request_, std::move(outputs), std::move(parameters)), final);
  return true;
}

bool Responder::Fail(Status status, bool final) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!request_) return false;
  SendLocked(Response::Error(std::move(status)), final);
  return true;
}

bool Responder::End() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!request_) return false;
  SendLocked(Response::End(), /*final=*/true);
  return true;
}

bool Responder::cancelled() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return !request_ || request_->cancelled();
}

void Responder::SendLocked(Response response, bool final) {
  if (!response.status.ok()) request_->failure = FailureReason::kBackend;
  if (!final) return request_->Send(std::move(response));
  request_->timeline.executed = request_->timeline.split = clock_.Now();
  ended_.store(true, std::memory_order_release);
  const RequestPtr request = std::move(request_);
  request->Answer(std::move(response));
}

}  // namespace pyinfer
