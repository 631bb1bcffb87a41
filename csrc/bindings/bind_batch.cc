// SPDX-License-Identifier: Apache-2.0
// bind_batch.cc - a batch as an executor in Python sees it.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/arrays.h"
#include "bindings/gil.h"
#include "bindings/register.h"
#include "protocol/error_map.h"
#include "sched/pack.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

// Moving this much memory takes longer than taking the GIL again.
constexpr size_t kReleaseGilFrom = 65536;

const Request& At(const BatchHandle& handle, size_t index) {
  if (handle.batch.finished()) throw std::runtime_error("the batch is finished");
  if (index >= handle.batch.size())
    throw py::index_error("the batch has " + std::to_string(handle.batch.size()) + " requests");
  return handle.batch.request(index);
}

void CheckOpen(const BatchHandle& handle, size_t index) {
  At(handle, index);
  if (handle.batch.answered(index)) throw std::runtime_error("the request is answered already");
}

py::dict Packed(BatchHandle& handle) {
  At(handle, 0);
  size_t bytes = 0;
  for (size_t i = 0; i < handle.batch.size(); ++i) {
    for (const Tensor& input : handle.batch.request(i).inputs) bytes += input.data.size();
  }
  std::vector<Tensor> tensors;
  if (bytes >= kReleaseGilFrom && handle.batch.size() > 1) {
    ReleaseGil release;
    tensors = Pack(handle.batch);
  } else {
    tensors = Pack(handle.batch);
  }
  py::dict packed;
  for (const Tensor& tensor : tensors) packed[py::str(tensor.name)] = ToArray(tensor);
  handle.batch.MarkPacked();
  return packed;
}

py::object Input(const BatchHandle& handle, size_t index, std::string_view name) {
  for (const Tensor& input : At(handle, index).inputs) {
    if (input.name != name) continue;
    const std::string_view datatype = DTypeName(input.dtype);
    return py::make_tuple(py::str(datatype.data(), datatype.size()), ToArray(input));
  }
  return py::none();
}

std::vector<std::string> InputNames(const BatchHandle& handle, size_t index) {
  std::vector<std::string> names;
  for (const Tensor& input : At(handle, index).inputs) names.push_back(input.name);
  return names;
}

std::vector<std::string> RequestedOutputs(const BatchHandle& handle, size_t index) {
  const Request& request = At(handle, index);
  if (!request.requested_outputs.empty()) return request.requested_outputs;
  std::vector<std::string> names;
  for (const TensorSpec& output : request.model->outputs) names.push_back(output.name);
  return names;
}

py::dict ParametersDict(const BatchHandle& handle, size_t index) {
  py::dict parameters;
  for (const auto& [name, value] : At(handle, index).parameters) {
    parameters[py::str(name)] = std::visit([](const auto& held) { return py::cast(held); }, value);
  }
  return parameters;
}

Parameters ToParameters(const py::object& given) {
  Parameters parameters;
  if (given.is_none()) return parameters;
  for (const auto& [name, value] : given.cast<py::dict>()) {
    ParameterValue converted;
    if (py::isinstance<py::bool_>(value)) {
      converted = value.cast<bool>();
    } else if (py::isinstance<py::int_>(value)) {
      converted = value.cast<int64_t>();
    } else if (py::isinstance<py::float_>(value)) {
      converted = value.cast<double>();
    } else {
      converted = value.cast<std::string>();
    }
    parameters.emplace_back(name.cast<std::string>(), std::move(converted));
  }
  return parameters;
}

void Respond(BatchHandle& handle, size_t index, const py::sequence& outputs, const py::object& parameters) {
  CheckOpen(handle, index);
  std::vector<Tensor> tensors;
  tensors.reserve(outputs.size());
  for (const py::handle item : outputs) {
    const auto output = py::reinterpret_borrow<py::sequence>(item);
    const auto datatype = output[1].cast<std::string_view>();
    StatusOr<Tensor> tensor =
        FromArray(output[0].cast<std::string>(), ParseDType(datatype), output[2].cast<py::array>());
    if (!tensor.ok()) return handle.batch.Fail(index, tensor.status());
    tensors.push_back(std::move(tensor).value());
  }
  handle.batch.Respond(index, std::move(tensors), ToParameters(parameters));
}

void RespondPacked(BatchHandle& handle, const py::dict& outputs) {
  At(handle, 0);
  std::vector<Tensor> tensors;
  tensors.reserve(outputs.size());
  for (const auto& [key, value] : outputs) {
    auto name = key.cast<std::string>();
    const auto array = value.cast<py::array>();
    const TensorSpec* spec = handle.batch.model().FindOutput(name);
    DType dtype = DTypeOfArray(array);
    if (spec != nullptr && spec->dtype == DType::kBf16 && dtype == DType::kUint16) dtype = DType::kBf16;
    if (dtype == DType::kInvalid && spec != nullptr) dtype = spec->dtype;
    StatusOr<Tensor> tensor = FromArray(std::move(name), dtype, array);
    if (!tensor.ok()) return handle.batch.FailOpen(tensor.status());
    tensors.push_back(std::move(tensor).value());
  }
  handle.batch.RespondPacked(std::move(tensors));
}

void Fail(BatchHandle& handle, size_t index, const std::string& code, std::string message) {
  CheckOpen(handle, index);
  handle.batch.Fail(index, {CodeOfName(code), std::move(message)});
}

void Finish(BatchHandle& handle) {
  handle.batch.SettleOutputs();
  ReleaseGil release;
  handle.batch.Finish();
}

}  // namespace

void BindBatch(py::module_& module) {
  py::class_<BatchHandle, std::shared_ptr<BatchHandle>>(module, "Batch", py::is_final())
      .def("__len__", [](const BatchHandle& handle) { return handle.batch.size(); })
      .def_property_readonly("rows", [](const BatchHandle& handle) { return handle.batch.rows(); })
      .def("packed", &Packed)
      .def("input_names", &InputNames, py::arg("index"))
      .def("input", &Input, py::arg("index"), py::arg("name"))
      .def(
          "request_id", [](const BatchHandle& handle, size_t index) { return At(handle, index).id; }, py::arg("index"))
      .def("requested_outputs", &RequestedOutputs, py::arg("index"))
      .def("parameters", &ParametersDict, py::arg("index"))
      .def(
          "is_cancelled", [](const BatchHandle& handle, size_t index) { return At(handle, index).cancelled(); },
          py::arg("index"))
      .def("respond_packed", &RespondPacked, py::arg("outputs"))
      .def("respond", &Respond, py::arg("index"), py::arg("outputs"), py::arg("parameters") = py::none())
      .def("fail", &Fail, py::arg("index"), py::arg("code"), py::arg("message"))
      .def("finish", &Finish);
}

}  // namespace pyinfer
