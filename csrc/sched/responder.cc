// SPDX-License-Identifier: Apache-2.0
#include "sched/responder.h"

#include <utility>

#include "base/burst.h"
#include "infer/answer_order.h"
#include "infer/validate.h"

namespace pyinfer {

Responder::Responder(RequestPtr request, const Clock& clock, std::weak_ptr<const HeldResources> held)
    : clock_(clock),
      held_(std::move(held)),
      decoupled_(request->model->decoupled),
      request_(std::move(request)),
      last_sent_(request_->timeline.packed) {}

Responder::~Responder() {
  if (ended()) return;
  Fail(Status::Internal("the model '" + request_->model->name + "' dropped a request before its last response"),
       /*final=*/true);
}

bool Responder::Send(std::vector<Tensor> outputs, Parameters parameters, bool final) {
  const Burst burst;  // outlives the lock
  std::lock_guard<std::mutex> lock(mutex_);
  if (!request_) return false;
  const TimeNs given = clock_.Now();
  SendLocked(MakeResponse(*request_, std::move(outputs), std::move(parameters)), given, final);
  return true;
}

bool Responder::Fail(Status status, bool final) {
  const Burst burst;  // outlives the lock
  std::lock_guard<std::mutex> lock(mutex_);
  if (!request_) return false;
  SendLocked(Response::Error(std::move(status)), clock_.Now(), final);
  return true;
}

bool Responder::End() {
  const Burst burst;  // outlives the lock
  std::lock_guard<std::mutex> lock(mutex_);
  if (!request_) return false;
  SendLocked(Response::End(), clock_.Now(), /*final=*/true);
  return true;
}

std::pair<std::shared_ptr<const CompletionSink>, Producer> Responder::Producing() const {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!request_) return {};
  return {request_->sink().lock(), {request_->observer, held_}};
}

void Responder::WaitForRoom() const {
  const auto [sink, producer] = Producing();
  if (sink) sink->WaitForRoom(producer);
}

std::unique_ptr<RoomWait> Responder::AskForRoom(std::shared_ptr<RoomListener> listener) const {
  const auto [sink, producer] = Producing();
  return sink ? sink->AskForRoom(producer, std::move(listener)) : nullptr;
}

RequestPtr Responder::TakeBack() {
  std::lock_guard<std::mutex> lock(mutex_);
  ended_.store(true, std::memory_order_release);
  return std::move(request_);
}

bool Responder::cancelled() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return !request_ || request_->cancelled();
}

void Responder::SendLocked(Response response, TimeNs given, bool final) {
  if (!response.status.ok()) request_->failure = FailureReason::kBackend;
  const TimeNs now = clock_.Now();
  if (decoupled_) ReportLocked(response, given, now);
  Timeline& timeline = request_->timeline;
  if (timeline.first_response == 0) timeline.first_response = now;
  if (!final) {
    if (request_->order) return request_->order->Send(*request_, std::move(response));
    return request_->Send(std::move(response));
  }
  timeline.executed = timeline.split = now;
  ended_.store(true, std::memory_order_release);
  Conclude(std::move(request_), std::move(response));
}

void Responder::ReportLocked(const Response& response, TimeNs given, TimeNs now) {
  ResponseReport report;
  if (request_->cancelled()) {
    report.kind = ResponseReport::Kind::kCancelled;
  } else if (response.only_ends) {
    report.kind = ResponseReport::Kind::kEmpty;
  } else if (!response.status.ok()) {
    report.kind = ResponseReport::Kind::kFail;
  }
  report.index = sent_++;
  report.begun = std::exchange(last_sent_, now);
  report.given = given;
  report.checked = now;
  if (request_->observer) request_->observer->OnResponse(*request_, report);
}

}  // namespace pyinfer
