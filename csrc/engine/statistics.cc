// SPDX-License-Identifier: Apache-2.0
#include "engine/statistics.h"

#include <algorithm>

namespace pyinfer {
namespace {

TimeNs Elapsed(TimeNs from, TimeNs to) { return std::max<TimeNs>(0, to - from); }
// Places of the summaries of the cache.
constexpr size_t kCacheHitSummary = 5;
constexpr size_t kCacheMissSummary = 6;

uint64_t Microseconds(TimeNs from, TimeNs to) { return static_cast<uint64_t>(Elapsed(from, to)) / 1000; }

}  // namespace

StatisticsCollector::StatisticsCollector(const StatisticsOptions& options, TimeNs now) {
  if (options.histograms) histograms_.emplace();
  if (!options.first_response_bounds_ms.empty()) first_response_.emplace(options.first_response_bounds_ms);
  if (!options.summary_quantiles.empty()) {
    summaries_.assign(kSummaries, SlidingSummary(options.summary_quantiles, now));
  }
}

void StatisticsCollector::AddRequest(const Request& request, const Status& status, TimeNs now, int64_t wall_ms,
                                     TimeNs cache_ns) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (request.cache_use != CacheUse::kNone) AddCacheUse(request.cache_use, cache_ns, now);
  sums_.last_inference_ms = std::max(sums_.last_inference_ms, wall_ms);
  if (status.ok()) {
    AddSuccess(request, now);
    return;
  }
  sums_.fail.Add(request.timeline.received, now);
  ++sums_.failures[static_cast<size_t>(request.failure)];
}

void StatisticsCollector::AddCacheUse(CacheUse use, TimeNs cache_ns, TimeNs now) {
  const bool hit = use == CacheUse::kHit;
  const uint64_t us = Microseconds(0, cache_ns);
  (hit ? sums_.cache_hit : sums_.cache_miss).Add(0, cache_ns);
  (hit ? sums_.cache_hit_us : sums_.cache_miss_us) += us;
  if (!summaries_.empty()) summaries_[hit ? kCacheHitSummary : kCacheMissSummary].Observe(us, now);
}

void StatisticsCollector::AddSuccess(const Request& request, TimeNs now) {
  const Timeline& t = request.timeline;
  sums_.success.Add(t.received, now);
  sums_.queue.Add(t.queued, t.picked);
  const uint64_t request_us = Microseconds(t.received, now);
  const uint64_t queue_us = Microseconds(t.queued, t.picked);
  sums_.request_us += request_us;
  sums_.queue_us += queue_us;
  if (histograms_) {
    histograms_->request.Add(Elapsed(t.received, now));
    histograms_->queue.Add(Elapsed(t.queued, t.picked));
  }
  if (!summaries_.empty()) {
    summaries_[0].Observe(request_us, now);
    summaries_[1].Observe(queue_us, now);
  }
  if (request.cache_use != CacheUse::kHit) AddExecuted(request, now);
}

// What only a request has that was executed.
void StatisticsCollector::AddExecuted(const Request& request, TimeNs now) {
  const Timeline& t = request.timeline;
  sums_.inference_count += static_cast<uint64_t>(std::max<int64_t>(1, request.batch_size));
  sums_.compute_input.Add(t.picked, t.packed);
  sums_.compute_infer.Add(t.packed, t.executed);
  sums_.compute_output.Add(t.executed, t.split);
  const std::array<uint64_t, 3> us = {Microseconds(t.picked, t.packed), Microseconds(t.packed, t.executed),
                                      Microseconds(t.executed, t.split)};
  sums_.compute_input_us += us[0];
  sums_.compute_infer_us += us[1];
  sums_.compute_output_us += us[2];
  if (summaries_.empty()) return;
  for (size_t i = 0; i < us.size(); ++i) summaries_[2 + i].Observe(us[i], now);
}

void StatisticsCollector::AddExecution(int64_t rows, const ExecutionTimes& times) {
  std::lock_guard<std::mutex> lock(mutex_);
  ++sums_.execution_count;
  BatchStatistics& batch = batches_[rows];
  batch.compute_input.Add(times.picked, times.packed);
  batch.compute_infer.Add(times.packed, times.executed);
  batch.compute_output.Add(times.executed, times.split);
  if (histograms_) {
    histograms_->batch.Add(rows);
    histograms_->rows += static_cast<uint64_t>(rows);
  }
}

void StatisticsCollector::AddFirstResponse(TimeNs received, TimeNs now) {
  if (!first_response_) return;
  std::lock_guard<std::mutex> lock(mutex_);
  first_response_->Add(Elapsed(received, now));
}

ModelStatistics StatisticsCollector::Snapshot() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return {sums_, batches_};
}

ModelMetrics StatisticsCollector::Metrics(TimeNs now) {
  std::lock_guard<std::mutex> lock(mutex_);
  ModelMetrics metrics{sums_, histograms_, first_response_, {}};
  for (SlidingSummary& summary : summaries_) metrics.summaries.push_back(summary.Values(now));
  return metrics;
}

}  // namespace pyinfer
