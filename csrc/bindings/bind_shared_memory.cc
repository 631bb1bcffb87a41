// SPDX-License-Identifier: Apache-2.0
// bind_shared_memory.cc - the registry of clients' shared memory, and the CUDA devices of this process.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>

#include "bindings/gil.h"
#include "bindings/register.h"
#include "memory/cuda_driver.h"
#include "memory/cuda_memory.h"
#include "memory/cuda_region.h"
#include "protocol/error_map.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

using Kind = SharedMemoryRegion::Kind;

Kind KindOf(const std::string& name) {
  if (name == "system") return Kind::kSystem;
  if (name == "cuda") return Kind::kCuda;
  throw py::value_error("kind must be 'system' or 'cuda', got '" + name + "'");
}

py::object Fault(const Status& status) {
  if (status.ok()) return py::none();
  const std::string_view code = ErrorRowOf(status.code()).name;
  return py::make_tuple(py::str(code.data(), code.size()), py::str(status.message()));
}

py::dict Describe(const SharedMemoryRegion& region) {
  py::dict facts;
  facts["name"] = region.name();
  if (region.kind() == Kind::kSystem) {
    const auto& system = static_cast<const SystemRegion&>(region);
    facts["key"] = system.key();
    facts["offset"] = system.offset();
  } else {
    facts["device_id"] = static_cast<const CudaRegion&>(region).device_id();
  }
  facts["byte_size"] = region.byte_size();
  return facts;
}

py::tuple List(const SharedMemoryRegistry& registry, const std::string& kind, const std::optional<std::string>& name) {
  StatusOr<std::vector<SharedMemoryRegionPtr>> found = registry.List(KindOf(kind), name);
  py::list regions;
  if (found.ok()) {
    for (const SharedMemoryRegionPtr& region : found.value()) regions.append(Describe(*region));
  }
  return py::make_tuple(std::move(regions), Fault(found.status()));
}

void Raise(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

py::list Devices() {
  std::vector<CudaDevice> devices;
  {
    ReleaseGil release;
    const StatusOr<const CudaDriver*> driver = CudaDriver::Get();
    for (int i = 0; driver.ok() && i < driver.value()->device_count(); ++i) {
      StatusOr<CudaDevice> device = driver.value()->Describe(i);
      devices.push_back(device.ok() ? std::move(device).value() : CudaDevice());
    }
  }
  py::list described;
  for (const CudaDevice& device : devices) described.append(py::make_tuple(device.uuid, device.major, device.minor));
  return described;
}

void BindCudaMemory(py::module_& module) {
  py::class_<CudaMemory>(module, "CudaMemory", py::is_final())
      .def(py::init([](int device, uint64_t byte_size) {
             StatusOr<std::unique_ptr<CudaMemory>> made = [&] {
               ReleaseGil release;
               return CudaMemory::Allocate(device, byte_size);
             }();
             Raise(made.status());
             return std::move(made).value();
           }),
           py::arg("device"), py::arg("byte_size"))
      .def(
          "write",
          [](CudaMemory& memory, uint64_t offset, const py::bytes& data) {
            const std::string_view bytes = data;
            Status status;
            {
              ReleaseGil release;
              status = memory.Write(offset, bytes);
            }
            Raise(status);
          },
          py::arg("offset"), py::arg("data"))
      .def_property_readonly("handle", [](const CudaMemory& memory) {
        return py::bytes(memory.handle().bytes.data(), memory.handle().bytes.size());
      });
}

}  // namespace

void BindSharedMemory(py::module_& module) {
  BindCudaMemory(module);
  module.def("cuda_devices", &Devices);
  module.def("cuda_available", [] {
    ReleaseGil release;
    return CudaDriver::Get().ok();
  });
  py::class_<SharedMemoryRegistry>(module, "SharedMemoryRegistry", py::is_final())
      .def("has_device",
           [](const SharedMemoryRegistry&) {
             ReleaseGil release;
             return CudaDriver::Get().ok();
           })
      .def("set_allowed", &SharedMemoryRegistry::set_allowed, py::arg("allowed"))
      .def(
          "register_system",
          [](SharedMemoryRegistry& registry, const std::string& name, const std::string& key, uint64_t offset,
             uint64_t byte_size) {
            Status status;
            {
              ReleaseGil release;
              status = registry.RegisterSystem(name, key, offset, byte_size);
            }
            return Fault(status);
          },
          py::arg("name"), py::arg("key"), py::arg("offset"), py::arg("byte_size"))
      .def(
          "register_cuda",
          [](SharedMemoryRegistry& registry, const std::string& name, const py::bytes& handle, int64_t device_id,
             uint64_t byte_size) {
            const auto bytes = static_cast<std::string>(handle);
            Status status;
            {
              ReleaseGil release;
              status = registry.RegisterCuda(name, bytes, device_id, byte_size);
            }
            return Fault(status);
          },
          py::arg("name"), py::arg("handle"), py::arg("device_id"), py::arg("byte_size"))
      .def(
          "unregister",
          [](SharedMemoryRegistry& registry, const std::string& kind, const std::optional<std::string>& name) {
            const Kind of = KindOf(kind);
            Status status;
            {
              ReleaseGil release;
              status = name ? registry.Unregister(of, *name) : registry.UnregisterAll(of);
            }
            return Fault(status);
          },
          py::arg("kind"), py::arg("name") = std::nullopt)
      .def("list", &List, py::arg("kind"), py::arg("name") = std::nullopt);
}

}  // namespace pyinfer
