// SPDX-License-Identifier: Apache-2.0
// bind_padding.cc - what a model's requests are padded to.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <functional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/register.h"
#include "infer/model_spec.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

// (name, buckets, to the longest, input with the lengths or "", its data type or "").
using AxisTuple = std::tuple<std::string, std::vector<int64_t>, bool, std::string, std::string>;
// (dimension, axis) of a tensor.
using PlaceTuple = std::pair<size_t, size_t>;
using InputTuple = std::tuple<std::string, std::vector<PlaceTuple>, py::bytes>;
using OutputTuple = std::pair<std::string, std::vector<PlaceTuple>>;

PaddingOptions::Axis MakeAxis(const AxisTuple& given) {
  const auto& [name, buckets, to_longest, lengths, datatype] = given;
  const bool ascend = std::adjacent_find(buckets.begin(), buckets.end(), std::greater_equal<>()) == buckets.end();
  if (buckets.empty() || buckets.front() < 1 || !ascend) {
    throw py::value_error("the buckets of '" + name + "' must be positive and ascend");
  }
  PaddingOptions::Axis axis{name, buckets, to_longest, lengths, DType::kInvalid};
  if (lengths.empty()) return axis;
  axis.lengths_dtype = ParseDType(datatype);
  if (axis.lengths_dtype != DType::kInt32 && axis.lengths_dtype != DType::kInt64) {
    throw py::value_error("the lengths of '" + name + "' are INT32 or INT64, got '" + datatype + "'");
  }
  return axis;
}

PaddingOptions::Tensor MakeTensor(const std::string& name, std::vector<PlaceTuple> places, std::string fill,
                                  size_t axes) {
  std::sort(places.begin(), places.end());
  PaddingOptions::Tensor tensor{name, {}, std::move(fill)};
  for (const auto& [dim, axis] : places) {
    const bool again = !tensor.places.empty() && tensor.places.back().dim == dim;
    if (dim == 0 || axis >= axes || again) {
      throw py::value_error("tensor '" + name + "' can not be padded along dimension " + std::to_string(dim));
    }
    tensor.places.push_back({dim, axis});
  }
  if (places.empty()) throw py::value_error("tensor '" + name + "' is padded along no dimension");
  return tensor;
}

PaddingOptions MakePadding(const std::vector<AxisTuple>& axes, const std::vector<InputTuple>& inputs,
                           const std::vector<OutputTuple>& outputs, size_t window) {
  if (axes.empty() || window == 0) throw py::value_error("padding needs an axis and a window");
  PaddingOptions options;
  for (const AxisTuple& axis : axes) options.axes.push_back(MakeAxis(axis));
  for (const auto& [name, places, fill] : inputs) {
    options.inputs.push_back(MakeTensor(name, places, static_cast<std::string>(fill), axes.size()));
  }
  for (const auto& [name, places] : outputs) options.outputs.push_back(MakeTensor(name, places, {}, axes.size()));
  options.window = window;
  return options;
}

void CheckPlaces(const PaddingOptions::Tensor& tensor, const TensorSpec* spec) {
  if (spec == nullptr) throw py::value_error("there is no tensor '" + tensor.name + "' to pad");
  for (const PaddingOptions::Place& place : tensor.places) {
    // Places are of the whole shape, dims leave the batch dimension out.
    if (place.dim > spec->dims.size() || spec->dims[place.dim - 1] != -1 || spec->reshape) {
      throw py::value_error("dimension " + std::to_string(place.dim) + " of tensor '" + tensor.name +
                            "' is not one that can be padded");
    }
  }
}

}  // namespace

void CheckPadding(const ModelSpec& model) {
  if (!model.padding) return;
  if (!model.has_batch_dimension() || model.sequence || model.ensemble) {
    throw py::value_error("padding needs a model with a batch dimension, and neither sequences nor an ensemble");
  }
  for (const PaddingOptions::Tensor& input : model.padding->inputs) {
    const TensorSpec* spec = model.FindInput(input.name);
    CheckPlaces(input, spec);
    const size_t size = DTypeSize(spec->dtype);
    const bool element =
        spec->dtype == DType::kBytes ? CheckBytes(input.fill, 1, "the padding").ok() : size == input.fill.size();
    if (!element || spec->ragged) throw py::value_error("input '" + input.name + "' can not be padded with that");
  }
  for (const PaddingOptions::Tensor& output : model.padding->outputs)
    CheckPlaces(output, model.FindOutput(output.name));
}

void BindPadding(py::module_& module) {
  py::class_<PaddingOptions>(module, "PaddingOptions", py::is_final())
      .def(py::init(&MakePadding), py::kw_only(), py::arg("axes"), py::arg("inputs"),
           py::arg("outputs") = std::vector<OutputTuple>(), py::arg("window") = 64);
}

}  // namespace pyinfer
