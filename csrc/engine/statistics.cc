// SPDX-License-Identifier: Apache-2.0
#include "engine/statistics.h"

#include <algorithm>

namespace pyinfer {
namespace {

TimeNs Elapsed(TimeNs from, TimeNs to) { return std::max<TimeNs>(0, to - from); }
uint64_t Microseconds(TimeNs from, TimeNs to) { return static_cast<uint64_t>(Elapsed(from, to)) / 1000; }

}  // namespace

StatisticsCollector::StatisticsCollector(const StatisticsOptions& options, TimeNs now) {
  if (options.histograms) histograms_.emplace();
  if (!options.first_response_bounds_ms.empty()) first_response_.emplace(options.first_response_bounds_ms);
  if (!options.summary_quantiles.empty()) {
    summaries_.assign(kSummaries, SlidingSummary(options.summary_quantiles, now));
  }
}

void StatisticsCollector::AddRequest(const Request& request, const Status& status, TimeNs now, int64_t wall_ms) {
  std::lock_guard<std::mutex> lock(mutex_);
  sums_.last_inference_ms = std::max(sums_.last_inference_ms, wall_ms);
  if (status.ok()) {
    AddSuccess(request, now);
    return;
  }
  sums_.fail.Add(request.timeline.received, now);
  ++sums_.failures[static_cast<size_t>(request.failure)];
}

void StatisticsCollector::AddSuccess(const Request& request, TimeNs now) {
  const Timeline& t = request.timeline;
  sums_.inference_count += static_cast<uint64_t>(std::max<int64_t>(1, request.batch_size));
  sums_.success.Add(t.received, now);
  sums_.queue.Add(t.queued, t.picked);
  sums_.compute_input.Add(t.picked, t.packed);
  sums_.compute_infer.Add(t.packed, t.executed);
  sums_.compute_output.Add(t.executed, t.split);
  const std::array<uint64_t, kSummaries> us = {Microseconds(t.received, now), Microseconds(t.queued, t.picked),
                                               Microseconds(t.picked, t.packed), Microseconds(t.packed, t.executed),
                                               Microseconds(t.executed, t.split)};
  sums_.request_us += us[0];
  sums_.queue_us += us[1];
  sums_.compute_input_us += us[2];
  sums_.compute_infer_us += us[3];
  sums_.compute_output_us += us[4];
  if (histograms_) {
    histograms_->request.Add(Elapsed(t.received, now));
    histograms_->queue.Add(Elapsed(t.queued, t.picked));
  }
  for (size_t i = 0; i < summaries_.size(); ++i) summaries_[i].Observe(us[i], now);
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
