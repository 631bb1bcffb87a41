// SPDX-License-Identifier: Apache-2.0
// bind_worker.cc - instances whose batches are executed by a worker process: both ends.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/gil.h"
#include "bindings/instances.h"
#include "bindings/register.h"
#include "protocol/error_map.h"
#include "worker/guest.h"
#include "worker/host.h"
#include "worker/session.h"
#include "worker/shared_values.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

template <typename T>
T OrThrow(StatusOr<T> made) {
  if (!made.ok()) throw std::runtime_error(made.status().message());
  return std::move(made).value();
}

std::vector<int> DescriptorsOf(const WorkerLanes& lanes) {
  return {lanes.requests->fd(), lanes.answers->fd(), lanes.calls->fd(), lanes.responses->fd()};
}

std::shared_ptr<WorkerSession> Announce(WorkerHost& host, const WorkerLanes& lanes, int group) {
  if (group <= 1) throw py::value_error("no process group of a worker has that number");
  return host.Announce(lanes, [group] { kill(-group, SIGKILL); });
}

// Has the worker of an instance begin batches.
class HostStarter final : public BatchStarter {
 public:
  HostStarter(WorkerHost& host, const InstanceHandle& instance)
      : host_(host), model_(instance.model), instance_(instance.number) {}

  HeardBy Begin(Batch batch) override { return host_.Begin(std::move(batch), model_, instance_); }
  Progress TryComplete() override { return host_.TryComplete(); }
  bool PrepareWatch() override { return host_.PrepareWatch(); }
  bool KeepWatching() override { return host_.KeepWatching(); }
  bool Watch() override { return host_.Watch(); }
  void Wake() override { host_.Wake(); }

 private:
  WorkerHost& host_;
  const std::shared_ptr<Model> model_;
  const size_t instance_;
};

void Run(WorkerHost& host, const InstanceHandle& instance) {
  const std::shared_ptr<Model> model = instance.model;
  const size_t number = instance.number;
  HostStarter starter(host, instance);
  ReleaseGil release;
  if (host.inputs()) model->SetInputRoom(host.inputs());
  model->LetBegin(number, starter);
  while (host.WaitReady()) {
    bool begun = false;
    Batch batch = model->NextBatch(number, &begun);
    if (begun) {
      host.Complete(model, number);
      continue;
    }
    if (batch.empty()) break;
    host.Execute(batch, model, number);
    batch.Finish();
  }
  model->StopLending(number);
  host.WaitLate();
}

void BindHost(py::module_& module) {
  py::class_<WorkerLanes>(module, "WorkerLanes", py::is_final())
      .def(py::init([] { return OrThrow(WorkerLanes::Create()); }))
      .def("fds", &DescriptorsOf);
  py::class_<PlacedInputs, std::shared_ptr<PlacedInputs>>(module, "PlacedInputs", py::is_final()).def(py::init([] {
    return OrThrow(PlacedInputs::Create());
  }));
  py::class_<WorkerSession, std::shared_ptr<WorkerSession>>(module, "WorkerSession", py::is_final())
      .def("serve_calls", &WorkerSession::ServeCalls)
      .def("stop_idle", [](WorkerSession& session) {
        ReleaseGil release;
        return session.StopIdle();
      });
  py::class_<WorkerHost, std::shared_ptr<WorkerHost>>(module, "WorkerHost", py::is_final())
      .def(py::init([](double limit_s, std::shared_ptr<Engine> engine, std::shared_ptr<PlacedInputs> inputs) {
             if (!(limit_s >= 0 && limit_s < 1e9)) throw py::value_error("the execution limit is out of range");
             return std::make_shared<WorkerHost>(static_cast<TimeNs>(std::ceil(limit_s * 1e9)), std::move(engine),
                                                 std::move(inputs));
           }),
           py::arg("execution_limit_s") = 0.0, py::arg("engine") = nullptr, py::arg("inputs") = nullptr)
      .def("announce", &Announce, py::arg("lanes"), py::arg("process_group"))
      .def("attach", &WorkerHost::Attach, py::arg("session").none(false))
      .def(
          "end",
          [](WorkerHost& host, const std::shared_ptr<WorkerSession>& session, const std::string& code,
             std::string message) {
            ReleaseGil release;
            host.End(session, {CodeOfName(code), std::move(message)});
          },
          py::arg("session").none(false), py::arg("code"), py::arg("message"))
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
            host.Execute(handle.batch, handle.model, handle.instance);
          },
          py::arg("batch"))
      .def("run", &Run, py::arg("instance"))
      .def_property_readonly("inputs_fd",
                             [](const WorkerHost& host) { return host.inputs() ? host.inputs()->fd() : -1; })
      .def_property_readonly("doorbell_fd", [](const WorkerHost& host) { return host.doorbell().ringing_fd(); })
      .def_property_readonly("executed", &WorkerHost::executed);
}

std::shared_ptr<Guest> MakeGuest(int requests_fd, int answers_fd, int inputs_fd, int doorbell_fd) {
  StatusOr<std::shared_ptr<Guest>> guest = Guest::Make(requests_fd, answers_fd, inputs_fd, doorbell_fd);
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
    handle->first = guest.first();
    {
      AcquireGil acquire;
      try {
        execute(py::cast(handle));
      } catch (py::error_already_set& error) {
        handle->batch.FailOpen(Status::Internal("the executor of the model failed"));
        error.discard_as_unraisable("the executor of a model");
      }
      for (const Slice& place : guest.places()) handle->batch.SettleOutputsIn(place.view());
      ObjectGraveyard::Default().Sweep();
    }
    guest.Finish(handle->batch);
  }
}

size_t Checked(size_t index) {
  if (index >= SharedValues::kCount) throw py::index_error("there are not so many numbers");
  return index;
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
      .def(py::init(&MakeGuest), py::arg("requests_fd"), py::arg("answers_fd"), py::arg("inputs_fd"),
           py::arg("doorbell_fd"))
      .def("serve", &Serve, py::arg("execute"));
  py::class_<SharedValues, std::shared_ptr<SharedValues>>(module, "SharedValues", py::is_final())
      .def(py::init(
               [](std::optional<int> fd) { return OrThrow(fd ? SharedValues::Adopt(*fd) : SharedValues::Create()); }),
           py::arg("fd") = py::none())
      .def_property_readonly("count", [](const SharedValues&) { return SharedValues::kCount; })
      .def("fileno", &SharedValues::fd)
      .def(
          "get", [](const SharedValues& values, size_t index) { return values.Get(Checked(index)); }, py::arg("index"))
      .def(
          "set", [](SharedValues& values, size_t index, double value) { values.Set(Checked(index), value); },
          py::arg("index"), py::arg("value"))
      .def(
          "add", [](SharedValues& values, size_t index, double amount) { values.Add(Checked(index), amount); },
          py::arg("index"), py::arg("amount"));
  module.def("end_with_parent", &EndWithParent, py::arg("parent"));
}

}  // namespace pyinfer
