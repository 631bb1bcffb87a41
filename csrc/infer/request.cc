// SPDX-License-Identifier: Apache-2.0
#include "infer/request.h"

#include <utility>

#include "infer/shared_memory.h"

namespace pyinfer {

void Request::Send(Response response) noexcept {
  if (uses_shared_memory) PlaceOutputs(*this, response);
  if (trace) trace->OnResponse(*this, response, /*final=*/false);
  sink_->Send(*this, std::move(response), /*final=*/false);
}

void Request::Answer(Response response) noexcept {
  if (uses_shared_memory) PlaceOutputs(*this, response);
  if (observer) observer->OnAnswer(*this, response.status);
  if (trace) trace->OnResponse(*this, response, /*final=*/true);
  const std::shared_ptr<CompletionSink> sink = std::exchange(sink_, nullptr);
  sink->Send(*this, std::move(response), /*final=*/true);
}

}  // namespace pyinfer
