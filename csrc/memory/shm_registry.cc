// SPDX-License-Identifier: Apache-2.0
#include "memory/shm_registry.h"

#include <utility>

#include "memory/cuda_region.h"

namespace pyinfer {
namespace {

using Kind = SharedMemoryRegion::Kind;

// Each region costs the process a mapping, of which it can have a limited number.
constexpr size_t kMaxRegions = 4096;

std::string KindName(Kind kind) { return kind == Kind::kSystem ? "system" : "CUDA"; }

Status NotOfThatKind(const std::string& name, Kind is, Kind asked) {
  return Status::NotFound("The region named '" + name + "' is registered as " + KindName(is) + " shared memory, not " +
                          KindName(asked) + " shared memory");
}

Status Disabled() {
  return Status::Unsupported(
      "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable.");
}

Status CheckRoom(const std::map<std::string, SharedMemoryRegionPtr>& regions, const std::string& name) {
  if (regions.count(name) != 0) {
    return Status(Code::kAlreadyExists, "shared memory region '" + name + "' already in manager");
  }
  if (regions.size() < kMaxRegions) return Status();
  return Status::Unavailable("no more than " + std::to_string(kMaxRegions) +
                             " shared memory regions can be registered: unregister some first");
}

}  // namespace

void SharedMemoryRegistry::set_allowed(bool allowed) {
  std::lock_guard<std::mutex> lock(mutex_);
  allowed_ = allowed;
}

Status SharedMemoryRegistry::CheckFree(const std::string& name) const {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!allowed_) return Disabled();
  return CheckRoom(regions_, name);
}

Status SharedMemoryRegistry::Add(SharedMemoryRegionPtr region) {
  std::lock_guard<std::mutex> lock(mutex_);
  // Somebody else may have been quicker.
  if (Status status = CheckRoom(regions_, region->name()); !status.ok()) return status;
  regions_.emplace(region->name(), std::move(region));
  return Status();
}

Status SharedMemoryRegistry::RegisterSystem(const std::string& name, const std::string& key, uint64_t offset,
                                            uint64_t byte_size) {
  if (Status status = CheckFree(name); !status.ok()) return status;
  auto region = SystemRegion::Open(name, key, offset, byte_size);
  return region.ok() ? Add(std::move(region).value()) : region.status();
}

Status SharedMemoryRegistry::RegisterCuda(const std::string& name, std::string_view handle, int64_t device_id,
                                          uint64_t byte_size) {
  if (Status status = CheckFree(name); !status.ok()) return status;
  auto region = CudaRegion::Open(name, handle, device_id, byte_size);
  return region.ok() ? Add(std::move(region).value()) : region.status();
}

Status SharedMemoryRegistry::Unregister(Kind kind, const std::string& name) {
  SharedMemoryRegionPtr removed;  // unmapped without the lock
  std::lock_guard<std::mutex> lock(mutex_);
  if (!allowed_) return Disabled();
  const auto found = regions_.find(name);
  if (found == regions_.end() || found->second->kind() != kind) return Status();
  removed = std::move(found->second);
  regions_.erase(found);
  return Status();
}

Status SharedMemoryRegistry::UnregisterAll(Kind kind) {
  std::vector<SharedMemoryRegionPtr> removed;
  std::lock_guard<std::mutex> lock(mutex_);
  if (!allowed_) return Disabled();
  for (auto region = regions_.begin(); region != regions_.end();) {
    if (region->second->kind() != kind) {
      ++region;
      continue;
    }
    removed.push_back(std::move(region->second));
    region = regions_.erase(region);
  }
  return Status();
}

StatusOr<std::vector<SharedMemoryRegionPtr>> SharedMemoryRegistry::List(Kind kind,
                                                                        const std::optional<std::string>& name) const {
  std::vector<SharedMemoryRegionPtr> found;
  std::lock_guard<std::mutex> lock(mutex_);
  if (!name) {
    for (const auto& [of, region] : regions_) {
      if (region->kind() == kind) found.push_back(region);
    }
    return found;
  }
  const auto one = regions_.find(*name);
  if (one == regions_.end()) {
    return Status::NotFound(std::string("Unable to find ") + (kind == Kind::kSystem ? "system" : "cuda") +
                            " shared memory region: '" + *name + "'");
  }
  if (one->second->kind() != kind) return NotOfThatKind(*name, one->second->kind(), kind);
  found.push_back(one->second);
  return found;
}

StatusOr<SharedMemoryPart> SharedMemoryRegistry::Find(const std::string& name, uint64_t offset,
                                                      uint64_t byte_size) const {
  SharedMemoryPart part;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = regions_.find(name);
    if (found == regions_.end()) return Status::NotFound("Unable to find shared memory region: '" + name + "'");
    part = {found->second, offset, byte_size};
  }
  const uint64_t size = part.region->byte_size();
  if (offset >= size) return Status::InvalidArg("Invalid offset for shared memory region: '" + name + "'");
  if (byte_size > size - offset) {
    return Status::InvalidArg("Invalid offset + byte size for shared memory region: '" + name + "'");
  }
  if (Status status = part.region->Check(); !status.ok()) return status;
  return part;
}

}  // namespace pyinfer
