// SPDX-License-Identifier: Apache-2.0
// bind_batch.cc - a batch as an executor in Python sees it.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/arrays.h"
#include "bindings/batch_api.h"
#include "bindings/bytes_view.h"
#include "bindings/conversions.h"
#include "bindings/dlpack.h"
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
  if (handle.batch.detached(index)) throw std::runtime_error("the request was detached from the batch");
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
    for (const Tensor& input : At(handle, i).inputs) bytes += input.data.size();
  }
  std::vector<Tensor> tensors;
  if (bytes >= kReleaseGilFrom && handle.batch.size() > 1) {
    ReleaseGil release;
    tensors = Pack(handle.batch);
  } else {
    tensors = Pack(handle.batch);
  }
  py::dict packed;
  for (const Tensor& tensor : tensors) packed[py::str(tensor.name)] = ToArray(tensor, Foreign::kView);
  handle.batch.MarkPacked();
  return packed;
}

// The name of a data type as one and the same object.
py::str NameObject(DType dtype) {
  static PyObject* names[static_cast<size_t>(DType::kBf16) + 1] = {};
  PyObject*& name = names[static_cast<size_t>(dtype)];
  if (name == nullptr) name = PyUnicode_InternFromString(std::string(DTypeName(dtype)).c_str());
  return py::reinterpret_borrow<py::str>(name);
}

py::object Input(const BatchHandle& handle, size_t index, std::string_view name, bool lazy) {
  for (const Tensor& input : At(handle, index).inputs) {
    if (input.name != name) continue;
    py::object data;
    if (input.data.device().has_value()) {
      data = ToDeviceArray(input);
    } else if (lazy && input.dtype == DType::kBytes) {
      data = py::cast(BytesView(input));
    } else {
      data = ToArray(input);
    }
    return py::reinterpret_steal<py::object>(PyTuple_Pack(2, NameObject(input.dtype).ptr(), data.ptr()));
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
  std::vector<std::string> names;
  for (const RequestedOutput& output : request.requested_outputs) names.push_back(output.name);
  if (!names.empty()) return names;
  for (const TensorSpec& output : request.model->outputs) names.push_back(output.name);
  return names;
}

py::dict ParametersDict(const BatchHandle& handle, size_t index) { return ToDict(At(handle, index).parameters); }

void Respond(BatchHandle& handle, size_t index, const py::sequence& outputs, const py::object& parameters) {
  CheckOpen(handle, index);
  StatusOr<std::vector<Tensor>> tensors = ToTensors(outputs);
  if (!tensors.ok()) return handle.batch.Fail(index, tensors.status());
  handle.batch.Respond(index, std::move(tensors).value(), ToParameters(parameters));
}

py::object CorrelationIdOf(const BatchHandle& handle, size_t index) {
  const CorrelationId& id = At(handle, index).correlation_id;
  if (!id.text.empty()) return py::str(id.text);
  return py::int_(id.number);
}

py::object TraceContextDict(const BatchHandle& handle, size_t index) {
  const std::shared_ptr<Trace>& trace = At(handle, index).trace;
  const auto context = trace ? trace->Context() : std::nullopt;
  if (!context) return py::none();
  py::dict headers;
  headers["traceparent"] = context->parent;
  // Whatever bytes the client sent: they are to be sent on as a header.
  if (!context->state.empty())
    headers["tracestate"] = py::reinterpret_steal<py::str>(
        PyUnicode_DecodeLatin1(context->state.data(), static_cast<Py_ssize_t>(context->state.size()), nullptr));
  return headers;
}

std::shared_ptr<Responder> Detach(BatchHandle& handle, size_t index) {
  CheckOpen(handle, index);
  if (handle.batch.has_states()) {
    throw std::runtime_error("a request to a model with implicit state can not be answered apart from its batch");
  }
  return handle.batch.Detach(index);
}

bool Reschedule(BatchHandle& handle, size_t index, Responder* responder) {
  if (handle.batch.finished()) throw std::runtime_error("the batch is finished");
  if (index >= handle.batch.size() || !handle.batch.may_reschedule(index)) {
    throw std::runtime_error("the request can not be rescheduled: this needs an iterative_sequence of the model");
  }
  return handle.batch.Reschedule(index, responder);
}

bool SendResponse(Responder& responder, const py::sequence& outputs, const py::object& parameters, bool final) {
  StatusOr<std::vector<Tensor>> tensors = ToTensors(outputs);
  if (!tensors.ok()) {
    ReleaseGil release;
    return responder.Fail(tensors.status(), final);
  }
  // The model keeps its arrays and may write to them as soon as this returns.
  CopyUnsettled(tensors.value());
  Parameters converted = ToParameters(parameters);
  ReleaseGil release;
  const bool sent = responder.Send(std::move(tensors).value(), std::move(converted), final);
  if (sent && !final) responder.WaitForRoom();
  return sent;
}

void BindResponder(py::module_& module) {
  py::class_<Responder, std::shared_ptr<Responder>>(module, "Responder", py::is_final())
      .def("send", &SendResponse, py::arg("outputs"), py::arg("parameters") = py::none(), py::kw_only(),
           py::arg("final"))
      .def(
          "fail",
          [](Responder& responder, const std::string& code, std::string message, bool final) {
            ReleaseGil release;
            return responder.Fail({CodeOfName(code), std::move(message)}, final);
          },
          py::arg("code"), py::arg("message"), py::kw_only(), py::arg("final"))
      .def("end",
           [](Responder& responder) {
             ReleaseGil release;
             return responder.End();
           })
      .def_property_readonly("ended", &Responder::ended)
      .def_property_readonly("decoupled", &Responder::decoupled)
      .def("is_cancelled", &Responder::cancelled);
}

// kInvalid where the model has no such output.
DType OutputDType(const ModelSpec& model, const std::string& name) {
  if (const TensorSpec* spec = model.FindOutput(name)) return spec->dtype;
  const SequenceStateSpec* state = model.sequence ? model.sequence->FindStateOutput(name) : nullptr;
  return state == nullptr ? DType::kInvalid : state->dtype;
}

void RespondPacked(BatchHandle& handle, const py::dict& outputs) {
  At(handle, 0);
  for (size_t i = 0; i < handle.batch.size(); ++i) At(handle, i);
  std::vector<Tensor> tensors;
  tensors.reserve(outputs.size());
  for (const auto& [key, value] : outputs) {
    auto name = key.cast<std::string>();
    const auto array = value.cast<py::array>();
    const DType wanted = OutputDType(handle.batch.model(), name);
    DType dtype = DTypeOfArray(array);
    if (wanted == DType::kBf16 && dtype == DType::kUint16) dtype = DType::kBf16;
    if (dtype == DType::kInvalid) dtype = wanted;
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

// Calls it as Python would: what it throws becomes the current exception, and `failed` is returned.
template <typename F>
auto WithPythonErrors(const F& run, decltype(run()) failed) noexcept {
  try {
    return run();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return failed;
}

void* HandleOf(PyObject* batch) {
  const py::handle held(batch);
  return py::isinstance<BatchHandle>(held) ? held.cast<BatchHandle*>() : nullptr;
}

PyObject* InputOf(void* handle, Py_ssize_t index, PyObject* name) {
  return WithPythonErrors(
      [&] {
        Py_ssize_t size = 0;
        const char* text = PyUnicode_AsUTF8AndSize(name, &size);
        if (text == nullptr) throw py::error_already_set();
        return Input(*static_cast<BatchHandle*>(handle), static_cast<size_t>(index), {text, static_cast<size_t>(size)},
                     /*lazy=*/true)
            .release()
            .ptr();
      },
      nullptr);
}

int RespondTo(void* handle, Py_ssize_t index, PyObject* outputs) {
  return WithPythonErrors(
      [&] {
        Respond(*static_cast<BatchHandle*>(handle), static_cast<size_t>(index),
                py::reinterpret_borrow<py::sequence>(outputs), py::none());
        return 0;
      },
      -1);
}

int PlainType(PyObject* array) {
  constexpr int kOwnTypes = 24;  // NumPy's; those of other packages may look like them
  const auto held = py::reinterpret_borrow<py::array>(array);
  const DType dtype = DTypeOfArray(held);
  const bool plain = dtype != DType::kBytes && held.dtype().num() < kOwnTypes && HasPlainBytes(held);
  return plain ? static_cast<int>(dtype) : 0;
}

constexpr pyinfer_batch_api kBatchApi = {&HandleOf, &InputOf, &RespondTo, &PlainType};

void Finish(BatchHandle& handle) {
  handle.batch.SettleOutputs();
  ReleaseGil release;
  handle.batch.Finish();
}

}  // namespace

void BindBatch(py::module_& module) {
  BindResponder(module);
  module.attr("_batch_api") = py::capsule(&kBatchApi, PYINFER_BATCH_API);
  py::class_<BatchHandle, std::shared_ptr<BatchHandle>>(module, "Batch", py::is_final())
      .def("__len__", [](const BatchHandle& handle) { return handle.batch.size(); })
      .def_property_readonly("rows", [](const BatchHandle& handle) { return handle.batch.rows(); })
      .def("packed", &Packed)
      .def("input_names", &InputNames, py::arg("index"))
      .def("input", &Input, py::arg("index"), py::arg("name"), py::arg("lazy") = false)
      .def(
          "request_id", [](const BatchHandle& handle, size_t index) { return At(handle, index).id; }, py::arg("index"))
      .def("requested_outputs", &RequestedOutputs, py::arg("index"))
      .def("parameters", &ParametersDict, py::arg("index"))
      .def("correlation_id", &CorrelationIdOf, py::arg("index"))
      .def(
          "flags", [](const BatchHandle& handle, size_t index) { return At(handle, index).flags; }, py::arg("index"))
      .def(
          "priority", [](const BatchHandle& handle, size_t index) { return At(handle, index).priority; },
          py::arg("index"))
      .def(
          "timeout_us", [](const BatchHandle& handle, size_t index) { return At(handle, index).timeout_us; },
          py::arg("index"))
      .def(
          "is_cancelled", [](const BatchHandle& handle, size_t index) { return At(handle, index).cancelled(); },
          py::arg("index"))
      .def("trace_context", &TraceContextDict, py::arg("index"))
      .def(
          "trace", [](const BatchHandle& handle, size_t index) { return At(handle, index).trace; }, py::arg("index"))
      .def("respond_packed", &RespondPacked, py::arg("outputs"))
      .def("respond", &Respond, py::arg("index"), py::arg("outputs"), py::arg("parameters") = py::none())
      .def("fail", &Fail, py::arg("index"), py::arg("code"), py::arg("message"))
      .def(
          "call_parent",
          [](const BatchHandle& handle, size_t index) {
            return ParentHandle{CallParent::Of(At(handle, index)), handle.first + index};
          },
          py::arg("index"))
      .def("detach", &Detach, py::arg("index"))
      .def("reschedule", &Reschedule, py::arg("index"), py::arg("responder") = nullptr)
      .def("finish", &Finish);
}

}  // namespace pyinfer
