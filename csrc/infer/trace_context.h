// SPDX-License-Identifier: Apache-2.0
// trace_context.h - the trace of a client that a request belongs to, as its headers say.
//
// Source: W3C Trace Context, level 2.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pyinfer {

// The headers `traceparent` and `tracestate`, as they came. Repeated ones are joined, which makes a parent invalid.
struct TraceContext {
  std::string parent;
  std::string state;

  void AddParent(std::string_view value) { Add(parent, value); }
  void AddState(std::string_view value) { Add(state, value); }

 private:
  static void Add(std::string& header, std::string_view value) {
    if (!header.empty()) header += ',';
    header += value;
  }
};

using TraceId = std::array<uint8_t, 16>;
using SpanId = std::array<uint8_t, 8>;

struct TraceParent {
  TraceId trace{};
  SpanId span{};
};

// Nothing where the text is not a valid `traceparent`. Whether the client records its own spans does not matter.
std::optional<TraceParent> ParseTraceParent(std::string_view text);

// "00-<trace>-<span>-01"
std::string TraceParentText(const TraceId& trace, const SpanId& span);

}  // namespace pyinfer
