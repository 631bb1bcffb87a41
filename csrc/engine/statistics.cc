// SPDX-License-Identifier: Apache-2.0
#include "engine/statistics.h"

#include <algorithm>

namespace pyinfer {
namespace {

uint64_t Microseconds(TimeNs from, TimeNs to) { return to > from ? static_cast<uint64_t>(to - from) / 1000 : 0; }

}  // namespace

void StatisticsCollector::AddRequest(const Request& request, const Status& status, TimeNs now, int64_t wall_ms) {
  const Timeline& t = request.timeline;
  std::lock_guard<std::mutex> lock(mutex_);
  sum_.last_inference_ms = std::max(sum_.last_inference_ms, wall_ms);
  if (!status.ok()) {
    sum_.fail.Add(t.received, now);
    ++sum_.failures[static_cast<size_t>(request.failure)];
    return;
  }
  sum_.inference_count += static_cast<uint64_t>(std::max<int64_t>(1, request.batch_size));
  sum_.success.Add(t.received, now);
  sum_.queue.Add(t.queued, t.picked);
  sum_.compute_input.Add(t.picked, t.packed);
  sum_.compute_infer.Add(t.packed, t.executed);
  sum_.compute_output.Add(t.executed, t.split);
  sum_.request_us += Microseconds(t.received, now);
  sum_.queue_us += Microseconds(t.queued, t.picked);
  sum_.compute_input_us += Microseconds(t.picked, t.packed);
  sum_.compute_infer_us += Microseconds(t.packed, t.executed);
  sum_.compute_output_us += Microseconds(t.executed, t.split);
}

void StatisticsCollector::AddExecution(int64_t rows, const ExecutionTimes& times) {
  std::lock_guard<std::mutex> lock(mutex_);
  ++sum_.execution_count;
  BatchStatistics& batch = sum_.batches[rows];
  batch.compute_input.Add(times.picked, times.packed);
  batch.compute_infer.Add(times.packed, times.executed);
  batch.compute_output.Add(times.executed, times.split);
}

ModelStatistics StatisticsCollector::Snapshot() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return sum_;
}

}  // namespace pyinfer
