// SPDX-License-Identifier: Apache-2.0
#include "infer/request.h"

#include <utility>

#include "infer/answer_order.h"
#include "infer/shared_memory.h"

namespace pyinfer {

void Request::Send(Response response) noexcept {
  if (uses_shared_memory) PlaceOutputs(*this, response);
  if (trace) trace->OnResponse(*this, response, /*final=*/false);
  sink_->Send(*this, std::move(response), /*final=*/false);
}

void Request::Answer(Response response) noexcept {
  if (uses_shared_memory) PlaceOutputs(*this, response);
  if (observer) observer->OnAnswer(*this, response);
  if (trace) trace->OnResponse(*this, response, /*final=*/true);
  const std::shared_ptr<CompletionSink> sink = std::exchange(sink_, nullptr);
  sink->Send(*this, std::move(response), /*final=*/true);
  if (order) std::exchange(order, nullptr)->Skip(turn);
}

void Conclude(RequestPtr request, Response response) noexcept {
  if (const std::shared_ptr<AnswerOrder> order = request->order) {
    return order->Deliver(std::move(request), std::move(response));
  }
  request->Answer(std::move(response));
}

}  // namespace pyinfer
