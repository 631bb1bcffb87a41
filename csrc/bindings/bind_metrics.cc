// SPDX-License-Identifier: Apache-2.0
// bind_metrics.cc - the page of metrics.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <tuple>

#include "bindings/gil.h"
#include "bindings/register.h"
#include "telemetry/metrics_page.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

using SampleTuple = std::tuple<std::string, std::vector<std::pair<std::string, std::string>>, double>;
using FamilyTuple = std::tuple<std::string, std::string, std::string, std::vector<SampleTuple>>;

MetricFamily::Type TypeOf(const std::string& type, const std::string& name) {
  if (type == "counter") return MetricFamily::Type::kCounter;
  if (type == "gauge") return MetricFamily::Type::kGauge;
  if (type == "histogram") return MetricFamily::Type::kHistogram;
  throw py::value_error("family '" + name + "': the type must be 'counter', 'gauge' or 'histogram', got '" + type +
                        "'");
}

MetricFamily MakeFamily(const FamilyTuple& given) {
  const auto& [type, name, help, samples] = given;
  MetricFamily family;
  family.type = TypeOf(type, name);
  family.name = name;
  family.help = help;
  for (const auto& [suffix, labels, value] : samples) family.samples.push_back({suffix, labels, value});
  return family;
}

py::bytes Page(const std::vector<std::shared_ptr<MetricModel>>& models, const std::vector<FamilyTuple>& given,
               bool latency_counters) {
  std::vector<MetricFamily> families;
  for (const FamilyTuple& family : given) families.push_back(MakeFamily(family));
  std::string page;
  {
    ReleaseGil release;
    page = MetricsPage(models, families, {latency_counters});
  }
  return page;
}

}  // namespace

void BindMetrics(py::module_& module) {
  py::class_<MetricModel, std::shared_ptr<MetricModel>>(module, "MetricModel", py::is_final())
      .def(py::init([](const ModelHandle& handle, const std::string& name_space,
                       const std::map<std::string, std::string>& tags, double load_seconds) {
             return std::make_shared<MetricModel>(handle.model(), name_space, tags, load_seconds);
           }),
           py::arg("model"), py::kw_only(), py::arg("namespace") = "", py::arg("tags") = py::dict(),
           py::arg("load_seconds") = 0.0);
  module.def("metrics_page", &Page, py::arg("models"), py::arg("families") = py::tuple(), py::kw_only(),
             py::arg("latency_counters") = true);
}

}  // namespace pyinfer
