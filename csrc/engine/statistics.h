// SPDX-License-Identifier: Apache-2.0
// statistics.h - what Triton's ModelStatistics reports of one model version, and what its metrics show, summed from the
// timelines of its requests.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/histogram.h"
#include "engine/quantiles.h"
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

struct ModelSums {
  int64_t last_inference_ms = 0;  // since the epoch; 0: none yet
  uint64_t inference_count = 0;   // rows of successful requests
  uint64_t execution_count = 0;
  DurationSum success, fail, queue, compute_input, compute_infer, compute_output;
  DurationSum cache_hit, cache_miss;  // looking up; for a miss, also keeping the answer
  std::array<uint64_t, kFailureReasons> failures{};
  // Whole microseconds, cut off for each request before adding, as Triton's counters are.
  uint64_t request_us = 0, queue_us = 0, compute_input_us = 0, compute_infer_us = 0, compute_output_us = 0;
  uint64_t cache_hit_us = 0, cache_miss_us = 0;
};

// A snapshot.
struct ModelStatistics : ModelSums {
  std::map<int64_t, BatchStatistics> batches;  // by rows
};

// Of successful requests, and of executions.
struct RequestHistograms {
  Histogram<DurationBounds> request, queue;
  Histogram<BatchBounds> batch;
  uint64_t rows = 0;  // of all executions
};

// The durations of a request that have a summary, in the order in which they are shown: the first five of any request,
// then those of the cache.
inline constexpr size_t kSummaries = 7;

// A snapshot; what is switched off is absent.
struct ModelMetrics {
  ModelSums sums;
  std::optional<RequestHistograms> histograms;
  std::optional<ConfiguredHistogram> first_response;
  std::vector<SummaryValues> summaries;  // kSummaries or none
};

// Any thread.
class StatisticsCollector {
 public:
  // `options` must outlive the collector.
  StatisticsCollector(const StatisticsOptions& options, TimeNs now);

  // `now` is the engine's time, `wall_ms` the time of day, `cache_ns` what the response cache took.
  void AddRequest(const Request& request, const Status& status, TimeNs now, int64_t wall_ms, TimeNs cache_ns = 0);
  void AddExecution(int64_t rows, const ExecutionTimes& times);
  // The first response of a request to a decoupled model.
  void AddFirstResponse(TimeNs received, TimeNs now);

  ModelStatistics Snapshot() const;
  ModelMetrics Metrics(TimeNs now);

 private:
  void AddSuccess(const Request& request, TimeNs now);
  void AddExecuted(const Request& request, TimeNs now);
  void AddCacheUse(CacheUse use, TimeNs cache_ns, TimeNs now);

  mutable std::mutex mutex_;
  ModelSums sums_;
  std::map<int64_t, BatchStatistics> batches_;
  std::optional<RequestHistograms> histograms_;
  std::optional<ConfiguredHistogram> first_response_;
  std::vector<SlidingSummary> summaries_;
};

}  // namespace pyinfer
