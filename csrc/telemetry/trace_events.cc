// SPDX-License-Identifier: Apache-2.0
#include "telemetry/trace_events.h"

#include <algorithm>

namespace pyinfer {
namespace {

struct TransportNames {
  const char* receive_start;
  const char* receive_end;
  const char* send_start;
  const char* send_end;
};

constexpr TransportNames kHttpNames = {"HTTP_RECV_START", "HTTP_RECV_END", "HTTP_SEND_START", "HTTP_SEND_END"};
constexpr TransportNames kGrpcNames = {"GRPC_WAITREAD_START", "GRPC_WAITREAD_END", "GRPC_SEND_START", "GRPC_SEND_END"};

}  // namespace

std::vector<TraceEvent> TraceEvents(const TraceRecord& record) {
  const Timeline& t = record.timeline;
  const TransportNames& names = record.transport == Transport::kGrpc ? kGrpcNames : kHttpNames;
  std::vector<TraceEvent> events;
  events.reserve(10 + 2 * record.sends.size());
  const auto add = [&events](const char* name, TimeNs ns, TraceStage stage) {
    if (ns != 0) events.push_back({name, ns, stage});
  };
  const bool remote = record.transport != Transport::kNone;
  if (remote) {
    add(names.receive_start, t.receiving, TraceStage::kTransport);
    add(names.receive_end, t.received, TraceStage::kTransport);
  }
  add(kRequestStart, t.started, TraceStage::kRequest);
  add(kQueueStart, t.queued, TraceStage::kRequest);
  if (!record.ensemble) {
    add("COMPUTE_START", t.picked, TraceStage::kCompute);
    add("COMPUTE_INPUT_END", t.packed, TraceStage::kCompute);
    add("COMPUTE_OUTPUT_START", t.executed, TraceStage::kCompute);
    add("COMPUTE_END", t.split, TraceStage::kCompute);
  }
  add(kResponseComplete, t.first_response != 0 ? t.first_response : t.answered, TraceStage::kTransport);
  add("REQUEST_END", t.answered, TraceStage::kRequest);
  if (remote) {
    for (const TracedSend& send : record.sends) {
      add(names.send_start, send.begun, TraceStage::kTransport);
      add(names.send_end, send.ended, TraceStage::kTransport);
    }
  }
  // The responses of a decoupled model are sent while it still computes.
  std::stable_sort(events.begin(), events.end(), [](const auto& a, const auto& b) { return a.ns < b.ns; });
  return events;
}

}  // namespace pyinfer
