// SPDX-License-Identifier: Apache-2.0
// shm_registry.h - the shared memory regions that clients have registered, by name.
//
// Both kinds share one namespace. A region that is unregistered while requests use it is found no more, and is unmapped
// when the last of them is answered. Any thread.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "memory/shm_region.h"

namespace pyinfer {

class SharedMemoryRegistry {
 public:
  using Kind = SharedMemoryRegion::Kind;

  // `allowed`: whether clients may register anything.
  explicit SharedMemoryRegistry(bool allowed = false) : allowed_(allowed) {}
  void set_allowed(bool allowed);

  // AlreadyExists for a name that is taken, Unsupported where it is not allowed; see SystemRegion and CudaRegion.
  Status RegisterSystem(const std::string& name, const std::string& key, uint64_t offset, uint64_t byte_size);
  // `handle`: the bytes of a cudaIpcMemHandle_t.
  Status RegisterCuda(const std::string& name, std::string_view handle, int64_t device_id, uint64_t byte_size);

  // A name that is not registered is no error. NotFound where it is of the other kind.
  Status Unregister(Kind kind, const std::string& name);
  Status UnregisterAll(Kind kind);

  // All regions of a kind by name, or one of them. NotFound where there is none of that name and kind.
  StatusOr<std::vector<SharedMemoryRegionPtr>> List(Kind kind, const std::optional<std::string>& name) const;

  // A part of a region. NotFound for an unknown name, InvalidArg for a range that does not lie within the region.
  StatusOr<SharedMemoryPart> Find(const std::string& name, uint64_t offset, uint64_t byte_size) const;

 private:
  Status Add(SharedMemoryRegionPtr region);
  Status CheckFree(const std::string& name) const;

  mutable std::mutex mutex_;
  bool allowed_;
  std::map<std::string, SharedMemoryRegionPtr> regions_;
};

}  // namespace pyinfer
