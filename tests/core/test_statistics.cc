// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>

#include "check.h"
#include "engine/engine.h"
#include "scheduling.h"
#include "telemetry/metrics_page.h"

namespace pyinfer {
namespace {

using testing::IntModel;
using testing::KeepingSink;

constexpr TimeNs kMs = 1'000'000;

struct House {
  explicit House(StatisticsOptions options) {
    ModelSpec spec = IntModel({});
    spec.decoupled = true;
    spec.statistics = std::move(options);
    model = engine.CreateModel(std::move(spec));
  }
  ~House() { model->Stop(); }

  std::string Page() const {
    return MetricsPage({std::make_shared<MetricModel>(model, "", std::map<std::string, std::string>(), "", 0)}, {}, {});
  }
  // Whether the page has the line, whose labels are those of the model and `labels`.
  void CheckLine(const std::string& name, const std::string& labels, const std::string& value) const {
    const std::string line = "\n" + name + "{model=\"m\",version=\"1\"" + labels + "} " + value + "\n";
    if (Page().find(line) == std::string::npos) CHECK_EQ(Page(), line);
  }

  std::shared_ptr<ManualClock> clock = std::make_shared<ManualClock>(kMs);
  Engine engine{clock};
  std::shared_ptr<Model> model;
};

TEST(Statistics, FirstResponsesHaveAHistogramOfTheirOwn) {
  StatisticsOptions options;
  options.first_response_bounds_ms = {-1, 0.5, 2, 1e6};
  House house(options);
  Request request(std::make_shared<KeepingSink>());
  request.timeline.received = kMs;
  for (const TimeNs us : {500, 501, 3'000}) {
    ResponseReport report;
    report.checked = kMs + us * 1000;
    house.model->OnResponse(request, report);
    report.index = 1;
    report.checked += 1'000'000 * kMs;
    house.model->OnResponse(request, report);
  }
  const std::string name = "nv_inference_first_response_histogram_ms";
  house.CheckLine(name + "_count", "", "3");
  house.CheckLine(name + "_sum", "", "4.001");
  house.CheckLine(name + "_bucket", ",le=\"-1\"", "0");
  house.CheckLine(name + "_bucket", ",le=\"0.5\"", "1");
  house.CheckLine(name + "_bucket", ",le=\"2\"", "2");
  house.CheckLine(name + "_bucket", ",le=\"1e+06\"", "3");
  house.CheckLine(name + "_bucket", ",le=\"+Inf\"", "3");
}

TEST(Statistics, WhatIsOffIsNotThere) {
  StatisticsOptions options;
  options.histograms = false;
  House house(options);
  Request request(std::make_shared<KeepingSink>());
  house.model->OnResponse(request, ResponseReport());
  house.model->OnExecuted(1, ExecutionTimes());
  const std::string page = house.Page();
  CHECK_EQ(page.find("histogram"), std::string::npos);
  CHECK_EQ(page.find("summary"), std::string::npos);
  CHECK_EQ(page.find("pyinfer_"), std::string::npos);
  house.CheckLine("nv_inference_exec_count", "", "1");
}

}  // namespace
}  // namespace pyinfer
