// SPDX-License-Identifier: Apache-2.0
// bind_cache.cc - the caches of responses: what their clients see of them.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "base/burst.h"
#include "bindings/gil.h"
#include "bindings/register.h"
#include "engine/remote_cache.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

// Is destroyed by whoever lets go of it last, with or without the GIL; its threads never need the GIL to end.
using JobTuple = std::tuple<uint64_t, py::bytes, std::optional<py::bytes>>;

std::shared_ptr<RemoteCache> MakeRemoteCache(double patience_s, size_t most_entry_bytes) {
  if (!(patience_s > 0 && patience_s <= 3600)) throw py::value_error("patience_s must be above 0 and at most 3600");
  RemoteCache::Limits limits;
  limits.patience = static_cast<TimeNs>(patience_s * 1e9);
  limits.most_entry_bytes = most_entry_bytes;
  return std::make_shared<RemoteCache>(limits);
}

std::vector<JobTuple> Take(RemoteCache& cache, double timeout_s, size_t most) {
  std::vector<RemoteCache::Job> jobs;
  {
    ReleaseGil release;
    jobs = cache.Take(std::chrono::nanoseconds(static_cast<int64_t>(timeout_s * 1e9)), most);
  }
  std::vector<JobTuple> taken;
  for (const RemoteCache::Job& job : jobs) {
    taken.emplace_back(job.id, py::bytes(job.key),
                       job.value ? std::optional<py::bytes>(py::bytes(*job.value)) : std::nullopt);
  }
  return taken;
}

void Answer(RemoteCache& cache, uint64_t id, const std::optional<py::buffer>& data) {
  std::optional<Slice> bytes;
  if (data) {
    const py::buffer_info info = data->request();
    if (info.ndim != 1 || info.itemsize != 1 || info.strides[0] != 1) throw py::type_error("bytes are needed");
    bytes = Slice::Copy(info.ptr, static_cast<size_t>(info.size));
  }
  ReleaseGil release;
  const Burst burst;
  cache.Answer(id, bytes);
}

}  // namespace

void BindCache(py::module_& module) {
  py::class_<RemoteCache, std::shared_ptr<RemoteCache>>(module, "RemoteCache", py::is_final())
      .def(py::init([](double patience_s, size_t most_entry_bytes) {
             return MakeRemoteCache(patience_s, most_entry_bytes);
           }),
           py::kw_only(), py::arg("patience_s"), py::arg("most_entry_bytes") = RemoteCache::Limits().most_entry_bytes)
      .def("take", &Take, py::arg("timeout_s"), py::arg("most"))
      .def("answer", &Answer, py::arg("id"), py::arg("data"))
      .def("set_reachable", &RemoteCache::SetReachable, py::arg("reachable"), py::call_guard<ReleaseGil>())
      .def_property_readonly("reachable", &RemoteCache::reachable)
      .def_property_readonly("closed", &RemoteCache::closed)
      .def("close", &RemoteCache::Close, py::call_guard<ReleaseGil>());
}

}  // namespace pyinfer
