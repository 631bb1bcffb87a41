// SPDX-License-Identifier: Apache-2.0
#include "telemetry/metrics_page.h"

#include <algorithm>
#include <array>
#include <limits>

namespace pyinfer {
namespace {

struct Row {
  const MetricModel* source;
  ModelMetrics metrics;

  const Labels& labels() const { return source->labels(); }
};

using Rows = std::vector<Row>;

// Those of models whose answers are kept.
template <typename Write>
void ForCached(const Rows& rows, Write write) {
  for (const Row& row : rows) {
    if (row.source->model().cached()) write(row);
  }
}

bool AnyCached(const Rows& rows) {
  return std::any_of(rows.begin(), rows.end(), [](const Row& row) { return row.source->model().cached(); });
}

void WriteCache(Exposition& page, const Rows& rows) {
  if (!AnyCached(rows)) return;
  const auto counter = [&](const char* name, const char* help, auto value) {
    page.Family(name, help, "counter");
    ForCached(rows, [&](const Row& row) { page.Sample("", row.labels(), uint64_t{value(row.metrics.sums)}); });
  };
  counter("nv_cache_num_hits_per_model", "Number of cache hits per model",
          [](const ModelSums& sums) { return sums.cache_hit.count; });
  counter("nv_cache_num_misses_per_model", "Number of cache misses per model",
          [](const ModelSums& sums) { return sums.cache_miss.count; });
  counter("nv_cache_hit_duration_per_model", "Total cache hit duration per model, in microseconds",
          [](const ModelSums& sums) { return sums.cache_hit_us; });
  counter("nv_cache_miss_duration_per_model", "Total cache miss (insert+lookup) duration per model, in microseconds",
          [](const ModelSums& sums) { return sums.cache_miss_us; });
}

void WriteFailures(Exposition& page, const Rows& rows) {
  page.Family("nv_inference_request_failure", "Number of failed inference requests, all batch sizes", "counter");
  for (const Row& row : rows) {
    for (size_t i = 0; i < kFailureReasons; ++i) {
      page.Sample("", row.source->labels(static_cast<FailureReason>(i)), row.metrics.sums.failures[i]);
    }
  }
}

template <typename Value>
void Write(Exposition& page, const Rows& rows, const char* name, const char* help, const char* type, Value value) {
  page.Family(name, help, type);
  for (const Row& row : rows) page.Sample("", row.labels(), value(row));
}

void WriteCounters(Exposition& page, const Rows& rows, const MetricsPageOptions& options) {
  const auto counter = [&](const char* name, const char* help, auto value) {
    Write(page, rows, name, help, "counter", [&](const Row& row) { return uint64_t{value(row.metrics.sums)}; });
  };
  counter("nv_inference_request_success", "Number of successful inference requests, all batch sizes",
          [](const ModelSums& sums) { return sums.success.count; });
  WriteFailures(page, rows);
  counter("nv_inference_count", "Number of inferences performed (does not include cached requests)",
          [](const ModelSums& sums) { return sums.inference_count; });
  counter("nv_inference_exec_count", "Number of model executions performed (does not include cached requests)",
          [](const ModelSums& sums) { return sums.execution_count; });
  if (!options.latency_counters) return;
  counter("nv_inference_request_duration_us",
          "Cumulative inference request duration in microseconds (includes cached requests)",
          [](const ModelSums& sums) { return sums.request_us; });
  counter("nv_inference_queue_duration_us",
          "Cumulative inference queuing duration in microseconds (includes cached requests)",
          [](const ModelSums& sums) { return sums.queue_us; });
  counter("nv_inference_compute_input_duration_us",
          "Cumulative compute input duration in microseconds (does not include cached requests)",
          [](const ModelSums& sums) { return sums.compute_input_us; });
  counter("nv_inference_compute_infer_duration_us",
          "Cumulative compute inference duration in microseconds (does not include cached requests)",
          [](const ModelSums& sums) { return sums.compute_infer_us; });
  counter("nv_inference_compute_output_duration_us",
          "Cumulative inference compute output duration in microseconds (does not include cached requests)",
          [](const ModelSums& sums) { return sums.compute_output_us; });
}

void WriteGauges(Exposition& page, const Rows& rows) {
  Write(page, rows, "nv_inference_pending_request_count",
        "Instantaneous number of pending requests awaiting execution per-model.", "gauge",
        [](const Row& row) { return uint64_t{row.source->model().pending()}; });
  Write(page, rows, "nv_model_load_duration_secs", "Model load time in seconds", "gauge",
        [](const Row& row) { return row.source->load_seconds(); });
}

const char* NameOf(MetricFamily::Type type) {
  switch (type) {
    case MetricFamily::Type::kCounter:
      return "counter";
    case MetricFamily::Type::kHistogram:
      return "histogram";
    default:
      return "gauge";
  }
}

void WriteFamilies(Exposition& page, const std::vector<MetricFamily>& families, MetricFamily::Type type) {
  for (const MetricFamily& family : families) {
    if (family.type != type) continue;
    page.Family(family.name, family.help, NameOf(type));
    for (const MetricFamily::Sample& sample : family.samples) {
      Labels labels;
      for (const auto& [name, value] : sample.labels) labels.Add(name, value);
      page.Sample(sample.suffix, labels, sample.value);
    }
  }
}

// The label of each range of a histogram. `upper(i)` is the upper end of range i as it is shown; the last has none.
template <typename Upper>
std::vector<Labels> RangeLabels(size_t ranges, Upper upper) {
  std::vector<Labels> labels(ranges);
  for (size_t i = 0; i < ranges; ++i) {
    labels[i].Add("le", i + 1 < ranges ? upper(i) : std::numeric_limits<double>::infinity());
  }
  return labels;
}

// `sum` is a number of the unit of `ranges`.
template <typename Counts, typename Sum>
void WriteHistogram(Exposition& page, const Labels& labels, const Counts& counts, const std::vector<Labels>& ranges,
                    Sum sum) {
  uint64_t total = 0;
  for (const uint64_t count : counts) total += count;
  page.Sample("_count", labels, total);
  page.Sample("_sum", labels, sum);
  uint64_t below = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    below += counts[i];
    page.Sample("_bucket", labels, below, ranges[i]);
  }
}

void WriteFirstResponses(Exposition& page, const Rows& rows) {
  page.Family("nv_inference_first_response_histogram_ms", "Duration from request to first response in milliseconds",
              "histogram");
  for (const Row& row : rows) {
    if (!row.metrics.first_response) continue;
    const ConfiguredHistogram& histogram = *row.metrics.first_response;
    const std::vector<double>& bounds = row.source->model().spec()->statistics.first_response_bounds_ms;
    WriteHistogram(page, row.labels(), histogram.counts(),
                   RangeLabels(histogram.counts().size(), [&](size_t i) { return bounds[i]; }),
                   static_cast<double>(histogram.sum_ns()) / 1e6);
  }
}

void WriteSummaries(Exposition& page, const Rows& rows) {
  static constexpr std::array<std::pair<const char*, const char*>, kSummaries> kFamilies = {{
      {"nv_inference_request_summary_us",
       "Summary of inference request duration in microseconds (includes cached requests)"},
      {"nv_inference_queue_summary_us",
       "Summary of inference queuing duration in microseconds (includes cached requests)"},
      {"nv_inference_compute_input_summary_us",
       "Cumulative compute input duration in microseconds (does not include cached requests)"},
      {"nv_inference_compute_infer_summary_us",
       "Cumulative compute inference duration in microseconds (does not include cached requests)"},
      {"nv_inference_compute_output_summary_us",
       "Cumulative inference compute output duration in microseconds (does not include cached requests)"},
      {"nv_cache_hit_summary_per_model", "Summary of cache hit counts/durations per model, in microseconds."},
      {"nv_cache_miss_summary_per_model", "Summary of cache miss counts/durations per model, in microseconds."},
  }};
  constexpr size_t kOfCache = 5;  // from here on
  for (size_t i = 0; i < kSummaries; ++i) {
    if (i >= kOfCache && !AnyCached(rows)) break;
    page.Family(kFamilies[i].first, kFamilies[i].second, "summary");
    for (const Row& row : rows) {
      if (row.metrics.summaries.empty() || (i >= kOfCache && !row.source->model().cached())) continue;
      const SummaryValues& summary = row.metrics.summaries[i];
      const std::vector<QuantileTarget>& targets = row.source->model().spec()->statistics.summary_quantiles;
      page.Sample("_count", row.labels(), summary.count);
      page.Sample("_sum", row.labels(), summary.sum);
      for (size_t q = 0; q < targets.size(); ++q) {
        page.Sample("", row.labels(), summary.quantiles[q], Labels().Add("quantile", targets[q].quantile));
      }
    }
  }
}

// Only of models that were used: most of ten thousand models are not, and a histogram is many lines.
void WriteOwnHistograms(Exposition& page, const Rows& rows) {
  constexpr double kNsInSecond = 1e9;
  // Never freed: a page may be written while the process ends.
  static const auto& kDurations =
      *new std::vector<Labels>(RangeLabels(Histogram<DurationBounds>::kRanges, [](size_t i) {
        return static_cast<double>(DurationBounds::kUpper[i]) / kNsInSecond;
      }));
  static const auto& kRows = *new std::vector<Labels>(RangeLabels(
      Histogram<BatchBounds>::kRanges, [](size_t i) { return static_cast<double>(BatchBounds::kUpper[i]); }));
  const auto each = [&](auto write) {
    for (const Row& row : rows) {
      if (row.metrics.histograms && row.metrics.sums.execution_count != 0) write(row, *row.metrics.histograms);
    }
  };
  page.Family("pyinfer_request_duration_seconds", "Duration of successful requests, from reception to answer",
              "histogram");
  each([&](const Row& row, const RequestHistograms& histograms) {
    WriteHistogram(page, row.labels(), histograms.request.counts(), kDurations,
                   static_cast<double>(row.metrics.sums.success.ns) / kNsInSecond);
  });
  page.Family("pyinfer_queue_duration_seconds", "Time that successful requests waited for an instance", "histogram");
  each([&](const Row& row, const RequestHistograms& histograms) {
    WriteHistogram(page, row.labels(), histograms.queue.counts(), kDurations,
                   static_cast<double>(row.metrics.sums.queue.ns) / kNsInSecond);
  });
  page.Family("pyinfer_batch_size", "Rows of the executions", "histogram");
  each([&](const Row& row, const RequestHistograms& histograms) {
    WriteHistogram(page, row.labels(), histograms.batch.counts(), kRows, histograms.rows);
  });
}

// Of models that have a latency SLO.
void WriteSlo(Exposition& page, const Rows& rows) {
  std::vector<std::pair<const Row*, SloReport>> reports;
  for (const Row& row : rows) {
    if (auto report = row.source->model().Slo()) reports.emplace_back(&row, std::move(*report));
  }
  if (reports.empty()) return;
  const auto family = [&](const char* name, const char* help, const char* type, auto value) {
    page.Family(name, help, type);
    for (const auto& [row, report] : reports) page.Sample("", row->labels(), uint64_t{value(report)});
  };
  family("pyinfer_slo_shed_total", "Requests refused on arrival, as the model is over capacity for its latency SLO",
         "counter", [](const SloReport& report) { return report.shed; });
  family("pyinfer_slo_given_up_total", "Requests that left the queue, as they could not be answered in time", "counter",
         [](const SloReport& report) { return report.given_up; });
  family("pyinfer_slo_batch_rows", "Rows of the executions with the most rows a second within the latency SLO", "gauge",
         [](const SloReport& report) { return static_cast<uint64_t>(report.best_rows); });
  page.Family("pyinfer_slo_execution_seconds", "Learned duration of an execution of about so many rows", "gauge");
  constexpr double kNsInSecond = 1e9;
  for (const auto& [row, report] : reports) {
    for (const ServiceTimes::Point& point : report.learned) {
      page.Sample("", row->labels(), point.mean_ns / kNsInSecond,
                  Labels().Add("rows", std::to_string(point.most_rows)));
    }
  }
}

}  // namespace

// Label pairs are ordered by name, which tags (they begin with '_') and the names below happen to allow.
MetricModel::MetricModel(std::shared_ptr<Model> model, const std::string& name_space,
                         const std::map<std::string, std::string>& tags, const std::string& gpu_uuid,
                         double load_seconds)
    : model_(std::move(model)), load_seconds_(load_seconds) {
  std::map<std::string, std::string> valid;
  for (const auto& [tag, value] : tags) valid.emplace(LabelName("_" + tag), value);
  for (const auto& [name, value] : valid) labels_.Add(name, value);
  if (!gpu_uuid.empty()) labels_.Add("gpu_uuid", gpu_uuid);
  labels_.Add("model", model_->spec()->name);
  if (!name_space.empty()) labels_.Add("namespace", name_space);
  static constexpr std::array<const char*, kFailureReasons> kReasons = {"REJECTED", "CANCELED", "BACKEND", "OTHER"};
  for (size_t i = 0; i < kFailureReasons; ++i) {
    of_failures_[i] = labels_;
    of_failures_[i].Add("reason", kReasons[i]).Add("version", model_->spec()->version_text);
  }
  labels_.Add("version", model_->spec()->version_text);
}

std::string MetricsPage(const std::vector<std::shared_ptr<MetricModel>>& models,
                        const std::vector<MetricFamily>& families, const MetricsPageOptions& options) {
  Rows rows;
  rows.reserve(models.size());
  for (const auto& model : models) rows.push_back({model.get(), model->model().Metrics()});
  Exposition page;
  WriteCounters(page, rows, options);
  WriteCache(page, rows);
  WriteFamilies(page, families, MetricFamily::Type::kCounter);
  WriteGauges(page, rows);
  WriteFamilies(page, families, MetricFamily::Type::kGauge);
  WriteFirstResponses(page, rows);
  WriteFamilies(page, families, MetricFamily::Type::kHistogram);
  WriteSummaries(page, rows);
  WriteOwnHistograms(page, rows);
  WriteSlo(page, rows);
  return page.Take();
}

}  // namespace pyinfer
