// SPDX-License-Identifier: Apache-2.0
// trace_events.h - the timestamps of a trace by Triton's names, read from its timeline.
#pragma once

#include <vector>

#include "infer/trace.h"

namespace pyinfer {

enum class TraceStage { kTransport, kRequest, kCompute };

struct TraceEvent {
  const char* name;
  TimeNs ns;
  TraceStage stage;  // of the three spans, the one that it belongs to
};

inline constexpr char kRequestStart[] = "REQUEST_START";
inline constexpr char kQueueStart[] = "QUEUE_START";
inline constexpr char kResponseComplete[] = "INFER_RESPONSE_COMPLETE";

// Those that were reached, in the order in which they happened.
std::vector<TraceEvent> TraceEvents(const TraceRecord& record);

}  // namespace pyinfer
