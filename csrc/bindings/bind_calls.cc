// SPDX-License-Identifier: Apache-2.0
// bind_calls.cc - requests that a model makes of another one.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "bindings/conversions.h"
#include "bindings/gil.h"
#include "bindings/register.h"
#include "engine/model_call.h"
#include "protocol/error_map.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

using Correlation = std::variant<uint64_t, std::string>;

std::shared_ptr<ModelCall> StartCall(const std::shared_ptr<Engine>& engine, std::string model, int64_t version,
                                     const py::sequence& inputs, std::string request_id, Correlation correlation_id,
                                     uint32_t flags, uint64_t timeout_us, const py::object& parameters,
                                     const std::vector<std::string>& outputs, const std::shared_ptr<BatchHandle>& batch,
                                     std::shared_ptr<Trace> trace, bool decoupled, bool waits) {
  auto call = std::make_shared<ModelCall>(engine);
  auto request = std::make_unique<Request>(call);
  request->model_name = std::move(model);
  request->model_version = version;
  request->id = std::move(request_id);
  if (auto* text = std::get_if<std::string>(&correlation_id)) {
    request->correlation_id.text = std::move(*text);
  } else {
    request->correlation_id.number = std::get<uint64_t>(correlation_id);
  }
  request->flags = flags;
  request->timeout_us = timeout_us;
  request->parameters = ToParameters(parameters);
  for (const std::string& output : outputs) request->requested_outputs.push_back({output});
  request->wants_empty_final_response = decoupled;
  StatusOr<std::vector<Tensor>> tensors = ToTensors(inputs);
  CallOrigin origin;
  origin.trace = std::move(trace);
  if (batch && !batch->batch.finished()) {
    for (size_t i = 0; i < batch->batch.size(); ++i) {
      if (!batch->batch.detached(i)) origin.parents.push_back(&batch->batch.request(i));
    }
    origin.model = batch->model;
    origin.instance = batch->instance;
  }
  if (!tensors.ok()) {
    request->Fail(FailureReason::kOther, Status::InvalidArg(tensors.status().message()));
    return call;
  }
  // A caller that waits does not write to its arrays meanwhile; the callee must not do so at all.
  if (!waits) CopyUnsettled(tensors.value());
  for (Tensor& tensor : tensors.value()) tensor.shared = true;
  request->inputs = std::move(tensors).value();
  ReleaseGil release;
  call->Start(std::move(request), origin, decoupled);
  return call;
}

// (outputs, code and text of the error or None, parameters, whether it is the last)
py::object ItemObject(std::optional<ModelCall::Item> item) {
  if (!item) return py::none();
  py::object error = py::none();
  if (const Status& status = item->response.status; !status.ok()) {
    const std::string_view name = ErrorRowOf(status.code()).name;
    error = py::make_tuple(py::str(name.data(), name.size()), status.message());
  }
  return py::make_tuple(ToList(item->response.outputs), std::move(error), ToDict(item->response.parameters),
                        item->final);
}

}  // namespace

void BindCalls(py::module_& module) {
  py::class_<Trace, std::shared_ptr<Trace>>(module, "Trace", py::is_final());

  py::class_<CallMailbox, std::shared_ptr<CallMailbox>>(module, "CallMailbox", py::is_final())
      .def(py::init<>())
      .def("fileno", [](const CallMailbox& mailbox) { return mailbox.fd(); })
      .def("collect", &CallMailbox::Collect)
      .def("close", &CallMailbox::Close);

  py::class_<ModelCall, std::shared_ptr<ModelCall>>(module, "ModelCall", py::is_final())
      .def(py::init(&StartCall), py::arg("engine"), py::arg("model"), py::arg("version"), py::arg("inputs"),
           py::kw_only(), py::arg("request_id") = "", py::arg("correlation_id") = Correlation(uint64_t{0}),
           py::arg("flags") = 0, py::arg("timeout_us") = 0, py::arg("parameters") = py::none(),
           py::arg("outputs") = std::vector<std::string>(), py::arg("batch") = nullptr, py::arg("trace") = nullptr,
           py::arg("decoupled") = false, py::arg("waits") = true)
      .def("next",
           [](ModelCall& call) {
             std::optional<ModelCall::Item> item;
             {
               ReleaseGil release;
               item = call.Next();
             }
             ObjectGraveyard::Default().Sweep();
             return ItemObject(std::move(item));
           })
      .def("poll", [](ModelCall& call) { return ItemObject(call.Poll()); })
      .def_property_readonly("ended", &ModelCall::ended)
      .def("notify", &ModelCall::Notify, py::arg("mailbox"), py::arg("number"))
      .def("cancel", [](ModelCall& call) {
        ReleaseGil release;
        call.Cancel();
      });
}

}  // namespace pyinfer
