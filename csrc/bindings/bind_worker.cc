// SPDX-License-Identifier: Apache-2.0
// bind_worker.cc - instances whose batches are executed by a worker process: both ends.
#include <pybind11/pybind11.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cmath>
#include <string>
#include <utility>

#include "bindings/gil.h"
#include "bindings/instances.h"
#include "bindings/register.h"
#include "protocol/error_map.h"
#include "worker/guest.h"
#include "worker/host.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

struct WorkerLanes {
  LaneMemoryPtr requests;
  LaneMemoryPtr answers;
};

WorkerLanes MakeLanes() {
  StatusOr<LaneMemoryPtr> requests = LaneMemory::Create();
  StatusOr<LaneMemoryPtr> answers = LaneMemory::Create();
  for (const auto* lane : {&requests, &answers}) {
    if (!lane->ok()) throw std::runtime_error(lane->status().message());
  }
  return {std::move(requests).value(), std::move(answers).value()};
}

void Attach(WorkerHost& host, const WorkerLanes& lanes, int group) {
  if (group <= 1) throw py::value_error("no process group of a worker has that number");
  host.Attach(lanes.requests, lanes.answers, [group] { kill(-group, SIGKILL); });
}

void Run(WorkerHost& host, const InstanceHandle& instance) {
  const std::shared_ptr<Model> model = instance.model;
  const size_t number = instance.number;
  ReleaseGil release;
  while (host.WaitReady()) {
    Batch batch = model->NextBatch(number);
    if (batch.empty()) break;
    host.Execute(batch);
    batch.Finish();
  }
  host.WaitLate();
}

void BindHost(py::module_& module) {
  py::class_<WorkerLanes>(module, "WorkerLanes", py::is_final())
      .def(py::init(&MakeLanes))
      .def_property_readonly("requests_fd", [](const WorkerLanes& lanes) { return lanes.requests->fd(); })
      .def_property_readonly("answers_fd", [](const WorkerLanes& lanes) { return lanes.answers->fd(); });
  py::class_<WorkerHost, std::shared_ptr<WorkerHost>>(module, "WorkerHost", py::is_final())
      .def(py::init([](double limit_s) {
             if (!(limit_s >= 0 && limit_s < 1e9)) throw py::value_error("the execution limit is out of range");
             return std::make_shared<WorkerHost>(static_cast<TimeNs>(std::ceil(limit_s * 1e9)));
           }),
           py::arg("execution_limit_s") = 0.0)
      .def("attach", &Attach, py::arg("lanes"), py::arg("process_group"))
      .def(
          "end",
          [](WorkerHost& host, const std::string& code, std::string message) {
            ReleaseGil release;
            host.End({CodeOfName(code), std::move(message)});
          },
          py::arg("code"), py::arg("message"))
      .def(
          "close",
          [](WorkerHost& host, const std::string& code, std::string message) {
            host.Close({CodeOfName(code), std::move(message)});
          },
          py::arg("code"), py::arg("message"))
      .def("stop",
           [](WorkerHost& host) {
             ReleaseGil release;
             host.Stop();
           })
      .def(
          "execute",
          [](WorkerHost& host, BatchHandle& handle) {
            ReleaseGil release;
            host.Execute(handle.batch);
          },
          py::arg("batch"))
      .def("run", &Run, py::arg("instance"))
      .def_property_readonly("executed", &WorkerHost::executed);
}

std::shared_ptr<Guest> MakeGuest(int requests_fd, int answers_fd) {
  StatusOr<std::shared_ptr<Guest>> guest = Guest::Make(requests_fd, answers_fd);
  if (!guest.ok()) throw py::value_error(guest.status().message());
  return std::move(guest).value();
}

// The executor answers its batches by respond and fail, and raises nothing but by mistake.
void Serve(Guest& guest, const py::function& execute) {
  ReleaseGil release;
  for (;;) {
    StatusOr<Batch> next = guest.Next();
    if (!next.ok()) throw std::runtime_error(next.status().message());
    if (next->empty()) return;
    const auto handle = std::make_shared<BatchHandle>(std::move(next).value());
    {
      AcquireGil acquire;
      try {
        execute(py::cast(handle));
      } catch (py::error_already_set& error) {
        handle->batch.FailOpen(Status::Internal("the executor of the model failed"));
        error.discard_as_unraisable("the executor of a model");
      }
      ObjectGraveyard::Default().Sweep();
    }
    guest.Finish(handle->batch);
  }
}

// The system ends this process when the thread that started it ends, which is there as long as its process.
void EndWithParent(int parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
}

}  // namespace

void BindWorker(py::module_& module) {
  BindHost(module);
  py::class_<Guest, std::shared_ptr<Guest>>(module, "WorkerGuest", py::is_final())
      .def(py::init(&MakeGuest), py::arg("requests_fd"), py::arg("answers_fd"))
      .def("serve", &Serve, py::arg("execute"));
  module.def("end_with_parent", &EndWithParent, py::arg("parent"));
}

}  // namespace pyinfer
