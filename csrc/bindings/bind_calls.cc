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
#include "worker/call_client.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

using Correlation = std::variant<uint64_t, std::string>;

// What the code of a worker process calls models through.
struct WorkerCalls {
  std::shared_ptr<CallClient> client;
  py::object announce;  // to be called before the first call; None afterwards
};

// Where calls go: to the engine of this process, or to the server that this is a worker of.
using Callee = std::variant<std::shared_ptr<Engine>, std::shared_ptr<WorkerCalls>>;

WorkerCalls MakeWorkerCalls(int calls_fd, int responses_fd, py::object announce) {
  StatusOr<std::shared_ptr<CallClient>> client = CallClient::Make(calls_fd, responses_fd);
  if (!client.ok()) throw py::value_error(client.status().message());
  return {std::move(client).value(), std::move(announce)};
}

// On whose behalf a call is made, and how.
struct Caller {
  std::shared_ptr<BatchHandle> batch;
  std::vector<ParentHandle> parents;
  std::shared_ptr<Trace> trace;
  bool decoupled = false;
  bool is_client = false;
  bool dispatch = true;
  bool runs_callee = false;
};

using Answer = std::optional<Call::Item>;

// Where there is an `answer`, waits for it: without taking the GIL in between, which the callee needs.
std::shared_ptr<Call> StartHere(const std::shared_ptr<LocalCall>& call, const Engine& engine, RequestPtr request,
                                const Caller& caller, Answer* answer) {
  CallOrigin origin;
  origin.trace = caller.trace;
  origin.of_client = caller.is_client;
  origin.dispatch = caller.dispatch;
  origin.runs_callee = caller.runs_callee;
  const TimeNs now = engine.Now();
  for (const ParentHandle& handle : caller.parents) origin.AddParent(handle.parent, now);
  if (const auto& batch = caller.batch; batch && !batch->batch.finished()) {
    for (size_t i = 0; i < batch->batch.size(); ++i) {
      if (!batch->batch.detached(i)) origin.AddParent(batch->batch.request(i), now);
    }
    origin.model = batch->model;
    origin.instance = batch->instance;
  }
  ReleaseGil release;
  call->Start(std::move(request), origin, caller.decoupled);
  if (answer != nullptr) *answer = call->Next();
  return call;
}

std::shared_ptr<Call> StartThere(WorkerCalls& calls, const Request& request, const Caller& caller, Answer* answer) {
  CallTerms terms;
  terms.decoupled = caller.decoupled;
  terms.trace = caller.trace ? caller.trace->id() : 0;
  for (const ParentHandle& handle : caller.parents) terms.parents.push_back(handle.number);
  if (const auto& batch = caller.batch; batch && !batch->batch.finished()) {
    terms.by_instance = true;
    for (size_t i = 0; i < batch->batch.size(); ++i) {
      if (!batch->batch.detached(i)) terms.parents.push_back(batch->first + i);
    }
  }
  if (!calls.announce.is_none()) std::exchange(calls.announce, py::none())();
  ReleaseGil release;
  std::shared_ptr<Call> call = calls.client->Start(request, std::move(terms));
  if (answer != nullptr) *answer = call->Next();
  return call;
}

// What is asked for.
struct Question {
  std::string model;
  int64_t version = -1;
  std::string request_id;
  Correlation correlation_id;
  uint32_t flags = 0;
  uint64_t timeout_us = 0;
  const std::vector<std::string>& outputs;
};

RequestPtr MakeRequest(const std::shared_ptr<LocalCall>& call, Question question, const py::object& parameters,
                       bool decoupled) {
  auto request = std::make_unique<Request>(call);
  request->model_name = std::move(question.model);
  request->model_version = question.version;
  request->id = std::move(question.request_id);
  if (auto* text = std::get_if<std::string>(&question.correlation_id)) {
    request->correlation_id.text = std::move(*text);
  } else {
    request->correlation_id.number = std::get<uint64_t>(question.correlation_id);
  }
  request->flags = question.flags;
  request->timeout_us = question.timeout_us;
  request->parameters = ToParameters(parameters);
  for (const std::string& output : question.outputs) request->requested_outputs.push_back({output});
  request->wants_empty_final_response = decoupled;
  return request;
}

std::shared_ptr<Call> Begin(const Callee& callee, Question question, const py::sequence& inputs,
                            const py::object& parameters, const Caller& caller, bool waits, Answer* answer) {
  const auto* engine = std::get_if<std::shared_ptr<Engine>>(&callee);
  const auto call = engine == nullptr ? nullptr : std::make_shared<LocalCall>(*engine);
  RequestPtr request = MakeRequest(call, std::move(question), parameters, caller.decoupled);
  StatusOr<std::vector<Tensor>> tensors = ToTensors(inputs);
  if (tensors.ok()) request->inputs = std::move(tensors).value();
  if (!call) {
    WorkerCalls& calls = *std::get<std::shared_ptr<WorkerCalls>>(callee);
    if (!tensors.ok()) return calls.client->Refuse(*request, tensors.status());
    return StartThere(calls, *request, caller, answer);
  }
  if (!tensors.ok()) {
    request->Fail(FailureReason::kOther, Status::InvalidArg(tensors.status().message()));
    return call;
  }
  // A caller that waits does not write to its arrays meanwhile; the callee must not do so at all.
  if (!waits) CopyUnsettled(request->inputs);
  for (Tensor& tensor : request->inputs) tensor.shared = true;
  return StartHere(call, **engine, std::move(request), caller, answer);
}

std::shared_ptr<Call> StartCall(const Callee& callee, std::string model, int64_t version, const py::sequence& inputs,
                                std::string request_id, Correlation correlation_id, uint32_t flags, uint64_t timeout_us,
                                const py::object& parameters, const std::vector<std::string>& outputs,
                                std::shared_ptr<BatchHandle> batch, std::vector<ParentHandle> parents,
                                std::shared_ptr<Trace> trace, bool decoupled, bool waits, bool as_client,
                                bool dispatch) {
  const Caller caller{std::move(batch), std::move(parents), std::move(trace), decoupled, as_client, dispatch};
  Question question{std::move(model), version, std::move(request_id), std::move(correlation_id), flags,
                    timeout_us,       outputs};
  return Begin(callee, std::move(question), inputs, parameters, caller, waits, nullptr);
}

// (outputs, code and text of the error or None, parameters, whether it is the last)
py::object ItemObject(std::optional<Call::Item> item) {
  if (!item) return py::none();
  py::object error = py::none();
  if (const Status& status = item->response.status; !status.ok()) {
    const std::string_view name = ErrorRowOf(status.code()).name;
    error = py::make_tuple(py::str(name.data(), name.size()), status.message());
  }
  return py::make_tuple(ToList(item->response.outputs), std::move(error), ToDict(item->response.parameters),
                        item->final);
}

// Of an argument, without the module's machinery for any number of signatures, which costs more than the call.
template <typename Held>
std::shared_ptr<Held> HeldBy(PyObject* argument) {
  return argument == Py_None ? nullptr : py::handle(argument).cast<std::shared_ptr<Held>>();
}

Callee CalleeOf(PyObject* argument) {
  if (py::isinstance<Engine>(argument)) return HeldBy<Engine>(argument);
  return HeldBy<WorkerCalls>(argument);
}

std::vector<std::string> Names(PyObject* argument) {
  std::vector<std::string> names;
  for (const py::handle name : py::reinterpret_borrow<py::sequence>(argument))
    names.push_back(name.cast<std::string>());
  return names;
}

py::object ExecCall(PyObject* const* arguments) {
  enum { kEngine, kModel, kVersion, kInputs, kId, kCorrelation, kFlags, kTimeout, kParameters, kOutputs, kBatch };
  enum { kParents = kBatch + 1, kTrace, kRunsCallee };
  const auto at = [&](size_t index) { return py::handle(arguments[index]); };
  Caller caller{HeldBy<BatchHandle>(arguments[kBatch]), {}, HeldBy<Trace>(arguments[kTrace])};
  for (const py::handle parent : at(kParents)) caller.parents.push_back(parent.cast<ParentHandle>());
  caller.runs_callee = arguments[kRunsCallee] == Py_True;
  const std::vector<std::string> outputs = Names(arguments[kOutputs]);
  Question question{at(kModel).cast<std::string>(),
                    at(kVersion).cast<int64_t>(),
                    at(kId).cast<std::string>(),
                    Correlation(uint64_t{0}),
                    at(kFlags).cast<uint32_t>(),
                    at(kTimeout).cast<uint64_t>(),
                    outputs};
  if (PyUnicode_Check(arguments[kCorrelation]) != 0) {
    question.correlation_id = at(kCorrelation).cast<std::string>();
  } else {
    question.correlation_id = at(kCorrelation).cast<uint64_t>();
  }
  Answer answer;
  const std::shared_ptr<Call> call =
      Begin(CalleeOf(arguments[kEngine]), std::move(question), py::reinterpret_borrow<py::sequence>(at(kInputs)),
            py::reinterpret_borrow<py::object>(at(kParameters)), caller, /*waits=*/true, &answer);
  if (!answer) answer = call->Poll();  // it was refused
  ObjectGraveyard::Default().Sweep();
  return ItemObject(std::move(answer));
}

constexpr Py_ssize_t kExecArguments = 14;

PyObject* ExecCallEntry(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  try {
    if (count != kExecArguments) throw py::type_error("exec_call takes 14 arguments");
    return ExecCall(arguments).release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::cast_error&) {
    PyErr_SetString(PyExc_TypeError, "an argument of the InferenceRequest has a type or a value that it can not have");
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

}  // namespace

void BindCalls(py::module_& module) {
  py::class_<Trace, std::shared_ptr<Trace>>(module, "Trace", py::is_final());

  py::class_<ParentHandle>(module, "CallParent", py::is_final());

  py::class_<CallMailbox, std::shared_ptr<CallMailbox>>(module, "CallMailbox", py::is_final())
      .def(py::init<>())
      .def("fileno", [](const CallMailbox& mailbox) { return mailbox.fd(); })
      .def("collect", &CallMailbox::Collect)
      .def("close", &CallMailbox::Close);

  py::class_<WorkerCalls, std::shared_ptr<WorkerCalls>>(module, "WorkerCalls", py::is_final())
      .def(py::init(&MakeWorkerCalls), py::arg("calls_fd"), py::arg("responses_fd"), py::arg("announce"));

  static PyMethodDef exec_call = {"exec_call", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&ExecCallEntry)),
                                  METH_FASTCALL, nullptr};
  module.attr("exec_call") = py::reinterpret_steal<py::object>(PyCFunction_New(&exec_call, nullptr));

  py::class_<Call, std::shared_ptr<Call>>(module, "ModelCall", py::is_final())
      .def(py::init(&StartCall), py::arg("engine"), py::arg("model"), py::arg("version"), py::arg("inputs"),
           py::kw_only(), py::arg("request_id") = "", py::arg("correlation_id") = Correlation(uint64_t{0}),
           py::arg("flags") = 0, py::arg("timeout_us") = 0, py::arg("parameters") = py::none(),
           py::arg("outputs") = std::vector<std::string>(), py::arg("batch") = nullptr,
           py::arg("parents") = std::vector<ParentHandle>(), py::arg("trace") = nullptr, py::arg("decoupled") = false,
           py::arg("waits") = true, py::arg("as_client") = false, py::arg("dispatch") = true)
      .def("next",
           [](Call& call) {
             std::optional<Call::Item> item;
             {
               ReleaseGil release;
               item = call.Next();
             }
             ObjectGraveyard::Default().Sweep();
             return ItemObject(std::move(item));
           })
      .def("poll", [](Call& call) { return ItemObject(call.Poll()); })
      .def_property_readonly("ended", &Call::ended)
      .def("notify", &Call::Notify, py::arg("mailbox"), py::arg("number"))
      .def("cancel", [](Call& call) {
        ReleaseGil release;
        call.Cancel();
      });
}

}  // namespace pyinfer
