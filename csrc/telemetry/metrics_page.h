// SPDX-License-Identifier: Apache-2.0
// metrics_page.h - the page that a scrape gets: Triton's families in Triton's order, over the statistics of models.
//
// Nothing is kept between pages, and no request pays for one: a page takes a snapshot of each model and writes it.
// Any thread.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/model.h"
#include "wire/exposition.h"

namespace pyinfer {

// One model version and what labels its samples. Immutable.
class MetricModel {
 public:
  // Each tag becomes a label `_<tag>`; of two that are one label the first counts. Without a namespace, or a device
  // that all instances are on (`gpu_uuid`), there is no label of it.
  MetricModel(std::shared_ptr<Model> model, const std::string& name_space,
              const std::map<std::string, std::string>& tags, const std::string& gpu_uuid, double load_seconds);

  Model& model() const { return *model_; }
  double load_seconds() const { return load_seconds_; }
  // The labels of its samples, and of those of its failures.
  const Labels& labels() const { return labels_; }
  const Labels& labels(FailureReason reason) const { return of_failures_[static_cast<size_t>(reason)]; }

 private:
  const std::shared_ptr<Model> model_;
  const double load_seconds_;
  Labels labels_;
  std::array<Labels, kFailureReasons> of_failures_;
};

// A family of samples that do not belong to a model, with the values that they have now.
struct MetricFamily {
  enum class Type { kCounter, kGauge, kHistogram };

  struct Sample {
    std::string suffix;  // of the family's name: those of a histogram have one each
    std::vector<std::pair<std::string, std::string>> labels;
    double value = 0;
  };

  Type type = Type::kGauge;
  std::string name;
  std::string help;
  std::vector<Sample> samples;
};

struct MetricsPageOptions {
  bool latency_counters = true;
};

// Counters first, then gauges, histograms and summaries, as Triton has them, then our own histograms. `families` come
// after those of their type that belong to models. UTF-8, if names and tags are.
std::string MetricsPage(const std::vector<std::shared_ptr<MetricModel>>& models,
                        const std::vector<MetricFamily>& families, const MetricsPageOptions& options);

}  // namespace pyinfer
