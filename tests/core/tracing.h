// SPDX-License-Identifier: Apache-2.0
// tracing.h - a tracer on a clock that stands still, and requests that pass it.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/tracer.h"
#include "scheduling.h"

namespace pyinfer::testing {

// What a tracer makes of requests that are answered at once.
struct Traced {
  explicit Traced(TraceQueue::Limits limits = {}) : tracer(std::make_shared<Tracer>(clock, limits)) {}

  RequestPtr Begin(const std::string& id = "", const std::string& traceparent = "") {
    RequestPtr request = IntRequest(model, std::make_shared<KeepingSink>());
    request->id = id;
    if (!traceparent.empty()) {
      request->trace_context = std::make_unique<TraceContext>();
      request->trace_context->AddParent(traceparent);
    }
    if (tracer->enabled()) tracer->Begin(*request);
    return request;
  }
  // How many of `count` requests are traced.
  int Infer(int count) {
    int traced = 0;
    for (int i = 0; i < count; ++i) {
      const RequestPtr request = Begin();
      traced += request->trace != nullptr ? 1 : 0;
      request->Answer({});
    }
    return traced;
  }
  // The finished traces, without waiting for any.
  std::vector<CollectedTrace> Take() { return tracer->queue()->Take(std::chrono::milliseconds(0)); }

  std::shared_ptr<ManualClock> clock = std::make_shared<ManualClock>(1000);
  std::shared_ptr<const ModelSpec> model = Shared(IntModel({}, /*version=*/3));
  std::shared_ptr<Tracer> tracer;
};

}  // namespace pyinfer::testing
