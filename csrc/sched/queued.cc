// SPDX-License-Identifier: Apache-2.0
#include "sched/queued.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "infer/answer_order.h"
#include "infer/padding.h"

namespace pyinfer {

namespace {

bool SameRows(const Shape& a, const Shape& b) {
  return a.size() == b.size() && std::equal(a.begin() + 1, a.end(), b.begin() + 1);
}

bool IsRagged(const ModelSpec& model, std::string_view input) {
  const TensorSpec* spec = model.FindInput(input);
  return spec != nullptr && spec->ragged;
}

}  // namespace

bool SameShapes(const Request& a, const Request& b) {
  if (a.inputs.size() != b.inputs.size()) return false;
  for (size_t i = 0; i < a.inputs.size(); ++i) {
    const Tensor& left = a.inputs[i];
    const Tensor& right = b.inputs[i];
    if (left.name != right.name) return false;
    if (a.padding) continue;
    if (!SameRows(left.shape, right.shape) && !IsRagged(*a.model, left.name)) return false;
  }
  return !a.padding || SamePadding(a, b);
}

TimeNs OwnDeadline(const Request& request) {
  if (request.timeout_us == 0) return 0;
  constexpr uint64_t kMostUs = INT64_MAX / 4000;
  return request.timeline.queued + static_cast<TimeNs>(std::min(request.timeout_us, kMostUs)) * 1000;
}

void GiveUp(RequestPtr request, FailureReason reason, Status status) noexcept {
  request->failure = reason;
  Response response = Response::Error(std::move(status));
  // One that was executed before may have responses that wait for their turn.
  if (const std::shared_ptr<AnswerOrder> order = request->order) {
    return order->Abandon(std::move(request), std::move(response));
  }
  request->Answer(std::move(response));
}

void AnswerCancelled(std::vector<RequestPtr>& requests) {
  for (RequestPtr& request : requests) GiveUp(std::move(request), FailureReason::kCancelled, Status::Cancelled());
}

void AnswerExpired(std::vector<RequestPtr>& requests) {
  for (RequestPtr& request : requests) {
    GiveUp(std::move(request), FailureReason::kRejected, Status::Unavailable("Request timeout expired"));
  }
}

Status StoppingStatus() {
  return Status::Unavailable("Server is stopping, scheduler for model has stopped accepting new inference requests");
}

}  // namespace pyinfer
