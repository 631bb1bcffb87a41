// SPDX-License-Identifier: Apache-2.0
// bind_values.cc - specifications, clocks and tables.
#include <nghttp2/nghttp2ver.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <simdjson.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <tuple>

#include "base/clock.h"
#include "bindings/register.h"
#include "infer/model_spec.h"
#include "protocol/error_map.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

// Sums of it and a time of the clock do not overflow.
constexpr int64_t kLongestTimeUs = INT64_MAX / 4000;

void CheckDims(const std::string& name, const Shape& dims) {
  if (std::any_of(dims.begin(), dims.end(), [](int64_t dim) { return dim < -1; })) {
    throw py::value_error("tensor '" + name + "': a dimension is -1 or non-negative, got " + ShapeText(dims));
  }
}

TensorSpec MakeTensorSpec(std::string name, const std::string& datatype, Shape dims, std::optional<Shape> reshape,
                          bool optional, std::vector<std::string> labels, bool ragged) {
  TensorSpec spec{std::move(name), ParseDType(datatype), std::move(dims), std::move(reshape),
                  optional,        std::move(labels),    ragged};
  if (spec.dtype == DType::kInvalid) {
    throw py::value_error("tensor '" + spec.name + "': unknown datatype '" + datatype + "'");
  }
  CheckDims(spec.name, spec.dims);
  if (spec.reshape) CheckDims(spec.name, *spec.reshape);
  return spec;
}

// (kind, target names, source input, data type), and the same without the first and last.
using BatchInputTuple = std::tuple<std::string, std::vector<std::string>, std::string, std::string>;
using BatchOutputTuple = std::pair<std::vector<std::string>, std::string>;

BatchInput MakeBatchInput(const BatchInputTuple& given) {
  static const std::map<std::string, BatchInput::Kind> kKinds = {
      {"BATCH_ELEMENT_COUNT", BatchInput::Kind::kElementCount},
      {"BATCH_ACCUMULATED_ELEMENT_COUNT", BatchInput::Kind::kAccumulatedElementCount},
      {"BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", BatchInput::Kind::kAccumulatedElementCountWithZero},
      {"BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", BatchInput::Kind::kMaxElementCountAsShape},
      {"BATCH_ITEM_SHAPE", BatchInput::Kind::kItemShape},
      {"BATCH_ITEM_SHAPE_FLATTEN", BatchInput::Kind::kItemShapeFlatten},
  };
  const auto& [kind, targets, source, datatype] = given;
  const auto found = kKinds.find(kind);
  if (found == kKinds.end()) throw py::value_error("unknown batch input kind '" + kind + "'");
  const DType dtype = ParseDType(datatype);
  if (dtype != DType::kInt32 && dtype != DType::kFp32) {
    throw py::value_error("a batch input is INT32 or FP32, got '" + datatype + "'");
  }
  return {found->second, targets, source, dtype};
}

ModelSpec MakeModelSpec(std::string name, int64_t version, std::vector<TensorSpec> inputs,
                        std::vector<TensorSpec> outputs, int64_t max_batch_size, bool dynamic_batching,
                        std::vector<int64_t> preferred, int64_t max_queue_delay_us, QueueOptions queue, bool decoupled,
                        std::optional<SequenceOptions> sequence, std::optional<EnsembleOptions> ensemble,
                        StatisticsOptions statistics, bool device_inputs, bool preserve_ordering,
                        const std::vector<BatchInputTuple>& batch_inputs,
                        const std::vector<BatchOutputTuple>& batch_outputs, bool cached,
                        std::optional<PaddingOptions> padding, bool split_large) {
  if (version < 0) throw py::value_error("version must not be negative, got " + std::to_string(version));
  if (max_batch_size < 0) {
    throw py::value_error("max_batch_size must not be negative, got " + std::to_string(max_batch_size));
  }
  if (max_queue_delay_us < 0 || max_queue_delay_us > kLongestTimeUs) {
    throw py::value_error("max_queue_delay_us must be in [0, " + std::to_string(kLongestTimeUs) + "], got " +
                          std::to_string(max_queue_delay_us));
  }
  std::sort(preferred.begin(), preferred.end());
  ModelSpec spec;
  spec.name = std::move(name);
  spec.version = version;
  spec.version_text = std::to_string(version);
  spec.inputs = std::move(inputs);
  spec.outputs = std::move(outputs);
  // Without a batch dimension there is nothing to batch along.
  spec.batching = {max_batch_size, dynamic_batching && max_batch_size > 0, std::move(preferred),
                   max_queue_delay_us * 1000};
  spec.queue = std::move(queue);
  spec.decoupled = decoupled;
  spec.sequence = std::move(sequence);
  spec.ensemble = std::move(ensemble);
  spec.statistics = std::move(statistics);
  spec.device_inputs = device_inputs;
  spec.batching.preserve_ordering = preserve_ordering;
  spec.cached = cached;
  spec.split_large = split_large;
  for (const BatchInputTuple& input : batch_inputs) spec.batch_inputs.push_back(MakeBatchInput(input));
  for (const auto& [targets, source] : batch_outputs) spec.batch_outputs.push_back({targets, source});
  spec.padding = std::move(padding);
  CheckPadding(spec);
  return spec;
}

QueuePolicy MakeQueuePolicy(const std::string& timeout_action, uint64_t default_timeout_us, bool allow_timeout_override,
                            size_t max_queue_size) {
  if (timeout_action != "REJECT" && timeout_action != "DELAY") {
    throw py::value_error("timeout_action must be 'REJECT' or 'DELAY', got '" + timeout_action + "'");
  }
  QueuePolicy policy;
  policy.timeout_action =
      timeout_action == "DELAY" ? QueuePolicy::TimeoutAction::kDelay : QueuePolicy::TimeoutAction::kReject;
  policy.default_timeout_ns =
      static_cast<int64_t>(std::min(default_timeout_us, static_cast<uint64_t>(kLongestTimeUs))) * 1000;
  policy.allow_timeout_override = allow_timeout_override;
  policy.max_queue_size = max_queue_size;
  return policy;
}

QueueOptions MakeQueueOptions(uint64_t levels, uint64_t default_level, QueuePolicy policy,
                              std::map<uint64_t, QueuePolicy> policies, int64_t latency_slo_us) {
  if (latency_slo_us < 0 || latency_slo_us > kLongestTimeUs) {
    throw py::value_error("latency_slo_us must be in [0, " + std::to_string(kLongestTimeUs) + "], got " +
                          std::to_string(latency_slo_us));
  }
  return {levels, default_level, policy, std::move(policies), latency_slo_us * 1000};
}

using ControlTuple = std::tuple<std::string, std::string, std::string, py::bytes, py::bytes>;

SequenceControl MakeControl(const ControlTuple& given) {
  static const std::map<std::string, SequenceControl::Kind> kKinds = {
      {"START", SequenceControl::Kind::kStart},
      {"READY", SequenceControl::Kind::kReady},
      {"END", SequenceControl::Kind::kEnd},
      {"CORRID", SequenceControl::Kind::kCorrelationId},
  };
  const auto& [kind, name, datatype, no, yes] = given;
  const auto found = kKinds.find(kind);
  if (found == kKinds.end()) throw py::value_error("control '" + name + "': unknown kind '" + kind + "'");
  SequenceControl control;
  control.kind = found->second;
  control.name = name;
  control.dtype = ParseDType(datatype);
  const auto size = DTypeSize(control.dtype);
  const auto element = [&](const py::bytes& bytes) {
    const auto view = static_cast<std::string_view>(bytes);
    if (view.size() != size)
      throw py::value_error("control '" + name + "': an element of " + datatype + " is expected");
    return Slice::Copy(view.data(), view.size());
  };
  if (control.kind == SequenceControl::Kind::kCorrelationId) {
    if (size == 0 && control.dtype != DType::kBytes) {
      throw py::value_error("control '" + name + "': unknown datatype '" + datatype + "'");
    }
    return control;
  }
  control.no = element(no);
  control.yes = element(yes);
  return control;
}

using StateTuple = std::tuple<std::string, std::string, std::string, Shape, Shape, py::bytes>;

SequenceStateSpec MakeState(const StateTuple& given) {
  const auto& [input_name, output_name, datatype, dims, initial_shape, initial] = given;
  SequenceStateSpec state;
  state.input_name = input_name;
  state.output_name = output_name;
  state.dtype = ParseDType(datatype);
  state.dims = dims;
  state.initial_shape = initial_shape;
  const auto bytes = static_cast<std::string_view>(initial);
  const std::string what = "state '" + input_name + "'";
  if (state.dtype == DType::kInvalid) throw py::value_error(what + ": unknown datatype '" + datatype + "'");
  CheckDims(input_name, dims);
  const auto count = ElementCount(initial_shape);
  if (!count) throw py::value_error(what + ": the initial shape " + ShapeText(initial_shape) + " is not one");
  const bool fits = state.dtype == DType::kBytes ? CheckBytes(bytes, *count, what).ok()
                                                 : ByteSize(state.dtype, initial_shape) == bytes.size();
  if (!fits) throw py::value_error(what + ": the initial data does not fill its shape " + ShapeText(initial_shape));
  state.initial = Slice::Copy(bytes.data(), bytes.size());
  return state;
}

SequenceOptions MakeSequenceOptions(const std::string& strategy, size_t slots, int64_t max_idle_us,
                                    double minimum_slot_utilization, const std::vector<ControlTuple>& controls,
                                    const std::vector<StateTuple>& states, bool iterative) {
  if (strategy != "direct" && strategy != "oldest") {
    throw py::value_error("strategy must be 'direct' or 'oldest', got '" + strategy + "'");
  }
  constexpr size_t kMostSlots = 1 << 20;
  if (slots < 1 || slots > kMostSlots) throw py::value_error("slots must be in [1, 1048576]");
  if (max_idle_us < 1 || max_idle_us > kLongestTimeUs) {
    throw py::value_error("max_idle_us must be in [1, " + std::to_string(kLongestTimeUs) + "]");
  }
  SequenceOptions options;
  options.strategy = strategy == "direct" ? SequenceOptions::Strategy::kDirect : SequenceOptions::Strategy::kOldest;
  options.slots = slots;
  options.max_idle_ns = max_idle_us * 1000;
  options.minimum_slot_utilization = minimum_slot_utilization;
  for (const ControlTuple& control : controls) options.controls.push_back(MakeControl(control));
  options.iterative = iterative;
  for (const StateTuple& state : states) options.states.push_back(MakeState(state));
  return options;
}

using StepTuple =
    std::tuple<std::string, int64_t, std::map<std::string, std::string>, std::map<std::string, std::string>>;

EnsembleOptions MakeEnsembleOptions(const std::vector<StepTuple>& steps, size_t max_inflight_requests) {
  if (steps.empty()) throw py::value_error("an ensemble must have a step");
  EnsembleOptions options;
  for (const auto& [model, version, inputs, outputs] : steps) {
    options.steps.push_back({model, version, {inputs.begin(), inputs.end()}, {outputs.begin(), outputs.end()}});
  }
  options.max_inflight_requests = max_inflight_requests;
  return options;
}

StatisticsOptions MakeStatisticsOptions(const std::vector<std::pair<double, double>>& summary_quantiles,
                                        std::vector<double> first_response_bounds_ms, bool histograms) {
  StatisticsOptions options;
  for (const auto& [quantile, error] : summary_quantiles) {
    if (!(quantile >= 0 && quantile <= 1)) throw py::value_error("a quantile must be in [0, 1]");
    if (!(error > 0 && error <= 1)) throw py::value_error("the error of a quantile must be in (0, 1]");
    options.summary_quantiles.push_back({quantile, error});
  }
  const auto& bounds = first_response_bounds_ms;
  for (size_t i = 0; i < bounds.size(); ++i) {
    if (!std::isfinite(bounds[i]) || (i > 0 && bounds[i] <= bounds[i - 1])) {
      throw py::value_error("the bounds of a histogram must be finite and ascend");
    }
  }
  options.first_response_bounds_ms = std::move(first_response_bounds_ms);
  options.histograms = histograms;
  return options;
}

py::dict BuildInfo() {
  py::dict info;
  info["compiler"] = "gcc " __VERSION__;
  info["sanitizer"] = PYINFER_SANITIZER;
  info["assertions"] =
#ifdef NDEBUG
      "off";
#else
      "on";
#endif
  info["nghttp2"] = NGHTTP2_VERSION;
  info["simdjson"] = SIMDJSON_STRINGIFY(SIMDJSON_VERSION);
  info["zlib"] = zlibVersion();
  return info;
}

py::dict ErrorTableDict() {
  py::dict table;
  for (const ErrorRow& row : ErrorTable()) {
    table[py::str(row.name.data(), row.name.size())] = py::make_tuple(row.http_status, row.grpc_status);
  }
  return table;
}

}  // namespace

void BindValues(py::module_& module) {
  py::class_<TensorSpec>(module, "TensorSpec", py::is_final())
      .def(py::init(&MakeTensorSpec), py::arg("name"), py::arg("datatype"), py::arg("dims"), py::kw_only(),
           py::arg("reshape") = std::nullopt, py::arg("optional") = false,
           py::arg("labels") = std::vector<std::string>(), py::arg("ragged") = false)
      .def_readonly("name", &TensorSpec::name)
      .def_property_readonly("datatype", [](const TensorSpec& spec) { return std::string(DTypeName(spec.dtype)); })
      .def_readonly("dims", &TensorSpec::dims);

  py::class_<QueuePolicy>(module, "QueuePolicy", py::is_final())
      .def(py::init(&MakeQueuePolicy), py::kw_only(), py::arg("timeout_action") = "REJECT",
           py::arg("default_timeout_us") = 0, py::arg("allow_timeout_override") = false, py::arg("max_queue_size") = 0);

  py::class_<QueueOptions>(module, "QueueOptions", py::is_final())
      .def(py::init(&MakeQueueOptions), py::kw_only(), py::arg("priority_levels") = 0,
           py::arg("default_priority_level") = 0, py::arg("default_policy") = QueuePolicy(),
           py::arg("policies") = std::map<uint64_t, QueuePolicy>(), py::arg("latency_slo_us") = 0);

  py::class_<SequenceOptions>(module, "SequenceOptions", py::is_final())
      .def(py::init(&MakeSequenceOptions), py::kw_only(), py::arg("strategy"), py::arg("slots"), py::arg("max_idle_us"),
           py::arg("minimum_slot_utilization") = 0.0, py::arg("controls") = std::vector<ControlTuple>(),
           py::arg("states") = std::vector<StateTuple>(), py::arg("iterative") = false);

  py::class_<EnsembleOptions>(module, "EnsembleOptions", py::is_final())
      .def(py::init(&MakeEnsembleOptions), py::kw_only(), py::arg("steps"), py::arg("max_inflight_requests") = 0);

  py::class_<StatisticsOptions>(module, "StatisticsOptions", py::is_final())
      .def(py::init(&MakeStatisticsOptions), py::kw_only(),
           py::arg("summary_quantiles") = std::vector<std::pair<double, double>>(),
           py::arg("first_response_bounds_ms") = std::vector<double>(), py::arg("histograms") = true);

  BindPadding(module);
  py::class_<ModelSpec>(module, "ModelSpec", py::is_final())
      .def(py::init(&MakeModelSpec), py::kw_only(), py::arg("name"), py::arg("version"), py::arg("inputs"),
           py::arg("outputs"), py::arg("max_batch_size") = 0, py::arg("dynamic_batching") = false,
           py::arg("preferred_batch_sizes") = std::vector<int64_t>(), py::arg("max_queue_delay_us") = 0,
           py::arg("queue") = QueueOptions(), py::arg("decoupled") = false, py::arg("sequence") = std::nullopt,
           py::arg("ensemble") = std::nullopt, py::arg("statistics") = StatisticsOptions(),
           py::arg("device_inputs") = false, py::arg("preserve_ordering") = false,
           py::arg("batch_inputs") = std::vector<BatchInputTuple>(),
           py::arg("batch_outputs") = std::vector<BatchOutputTuple>(), py::arg("cached") = false,
           py::arg("padding") = std::nullopt, py::arg("split_large") = false)
      .def_readonly("name", &ModelSpec::name)
      .def_readonly("version", &ModelSpec::version);

  py::class_<ManualClock, std::shared_ptr<ManualClock>>(module, "ManualClock", py::is_final())
      .def(py::init<TimeNs>(), py::arg("now_ns") = 0)
      .def("now_ns", &ManualClock::Now)
      .def("advance_ns", &ManualClock::Advance, py::arg("ns"));

  module.def("error_table", &ErrorTableDict);
  module.def("build_info", &BuildInfo);
}

}  // namespace pyinfer
