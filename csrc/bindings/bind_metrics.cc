// SPDX-License-Identifier: Apache-2.0
// bind_metrics.cc - the page of metrics, and reports of the statistics of models.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <tuple>

#include "bindings/connections.h"
#include "bindings/gil.h"
#include "bindings/register.h"
#include "telemetry/metrics_page.h"
#include "telemetry/statistics_report.h"

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

// What `write` returns, which is called without the GIL. It may be megabytes: these are copied without it as well.
template <typename Write>
py::bytes Written(Write write) {
  std::string text;
  {
    ReleaseGil release;
    text = write();
  }
  auto made =
      py::reinterpret_steal<py::bytes>(PyBytes_FromStringAndSize(nullptr, static_cast<py::ssize_t>(text.size())));
  if (!made) throw py::error_already_set();
  char* const to = PyBytes_AS_STRING(made.ptr());
  if (text.size() < kReleaseGilFrom) {
    std::memcpy(to, text.data(), text.size());
  } else {
    ReleaseGil release;  // nobody else knows the object yet
    std::memcpy(to, text.data(), text.size());
    text = std::string();
  }
  return made;
}

py::bytes Page(const std::vector<std::shared_ptr<MetricModel>>& models, const std::vector<FamilyTuple>& given,
               bool latency_counters) {
  std::vector<MetricFamily> families;
  for (const FamilyTuple& family : given) families.push_back(MakeFamily(family));
  return Written([&] { return MetricsPage(models, families, {latency_counters}); });
}

using ModelHandles = std::vector<std::shared_ptr<ModelHandle>>;

py::bytes Report(const ModelHandles& handles, std::string (*write)(const std::vector<std::shared_ptr<Model>>&)) {
  std::vector<std::shared_ptr<Model>> models;
  models.reserve(handles.size());
  for (const auto& handle : handles) models.push_back(handle->model());
  return Written([&] { return write(models); });
}

}  // namespace

void BindMetrics(py::module_& module) {
  py::class_<MetricModel, std::shared_ptr<MetricModel>>(module, "MetricModel", py::is_final())
      .def(py::init([](const ModelHandle& handle, const std::string& name_space,
                       const std::map<std::string, std::string>& tags, const std::string& gpu_uuid,
                       double load_seconds) {
             return std::make_shared<MetricModel>(handle.model(), name_space, tags, gpu_uuid, load_seconds);
           }),
           py::arg("model"), py::kw_only(), py::arg("namespace") = "", py::arg("tags") = py::dict(),
           py::arg("gpu_uuid") = "", py::arg("load_seconds") = 0.0);
  module.def("metrics_page", &Page, py::arg("models"), py::arg("families") = py::tuple(), py::kw_only(),
             py::arg("latency_counters") = true);
  module.def(
      "statistics_json", [](const ModelHandles& models) { return Report(models, &StatisticsJson); }, py::arg("models"));
  module.def(
      "statistics_message", [](const ModelHandles& models) { return Report(models, &StatisticsMessage); },
      py::arg("models"));
}

}  // namespace pyinfer
