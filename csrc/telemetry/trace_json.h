// SPDX-License-Identifier: Apache-2.0
// trace_json.h - a trace as the entries of Triton's trace file.
#pragma once

#include <string>

#include "infer/trace.h"

namespace pyinfer {

// Appends the entries of `record`, with commas between them; never nothing.
//
// {"id", "model_name", "model_version"[, "request_id"]} once, {"id", "timestamps": [{"name", "ns"}]} for each time, and
// {"id", "activity", "tensor": {"name", "data", "shape", "dtype"}} for each tensor, its elements as text with commas
// between them: numbers as the shortest text that reads back as the same value, BOOL as 0 and 1, BYTES in quotes.
void AppendTraceJson(std::string& out, const TraceRecord& record);

}  // namespace pyinfer
