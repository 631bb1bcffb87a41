// SPDX-License-Identifier: Apache-2.0
// statistics.h - what Triton's ModelStatistics reports of one model version, summed from the timelines of its requests.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>

#include "infer/request.h"
#include "sched/batch.h"

namespace pyinfer {

struct DurationSum {
  uint64_t count = 0;
  uint64_t ns = 0;

  void Add(TimeNs from, TimeNs to) {
    ++count;
    if (to > from) ns += static_cast<uint64_t>(to - from);
  }
};

struct BatchStatistics {
  DurationSum compute_input, compute_infer, compute_output;
};

// A snapshot.
struct ModelStatistics {
  int64_t last_inference_ms = 0;  // since the epoch; 0: none yet
  uint64_t inference_count = 0;   // rows of successful requests
  uint64_t execution_count = 0;
  DurationSum success, fail, queue, compute_input, compute_infer, compute_output;
  std::map<int64_t, BatchStatistics> batches;  // by rows
  std::array<uint64_t, kFailureReasons> failures{};
  // Whole microseconds, cut off for each request before adding, as Triton's counters are.
  uint64_t request_us = 0, queue_us = 0, compute_input_us = 0, compute_infer_us = 0, compute_output_us = 0;
};

// Any thread.
class StatisticsCollector {
 public:
  // `now` is the engine's time, `wall_ms` the time of day.
  void AddRequest(const Request& request, const Status& status, TimeNs now, int64_t wall_ms);
  void AddExecution(int64_t rows, const ExecutionTimes& times);
  ModelStatistics Snapshot() const;

 private:
  mutable std::mutex mutex_;
  ModelStatistics sum_;
};

}  // namespace pyinfer
