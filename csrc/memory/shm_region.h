// SPDX-License-Identifier: Apache-2.0
// shm_region.h - memory that a client shares with the server: a POSIX shared memory object, or CUDA device memory.
//
// A region is mapped as long as somebody holds it: whoever uses it in a request has a lease by holding the pointer.
// The client may change or shorten the memory at any time, so what is read from it is checked only in a private copy.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "memory/buffer.h"
#include "memory/bus_guard.h"

namespace pyinfer {

class SharedMemoryRegion : public std::enable_shared_from_this<SharedMemoryRegion> {
 public:
  enum class Kind { kSystem, kCuda };

  virtual ~SharedMemoryRegion() = default;
  SharedMemoryRegion(const SharedMemoryRegion&) = delete;
  SharedMemoryRegion& operator=(const SharedMemoryRegion&) = delete;

  Kind kind() const { return kind_; }
  const std::string& name() const { return name_; }
  uint64_t byte_size() const { return byte_size_; }

  // [offset, offset + size) for reading. `share`: where they are, be it on a device, without a copy where that is
  // possible; the client may write to it meanwhile. Else: a copy in memory of the host.
  // Requires: the range lies within the region.
  virtual StatusOr<Slice> Read(uint64_t offset, uint64_t size, bool share) const = 0;
  // Requires: the range lies within the region.
  virtual Status Write(uint64_t offset, std::string_view bytes) const = 0;
  // Whether `other` is another mapping of the same memory and has a part of [offset, offset + size): what is moved from
  // there to here then does not see where it meets itself. Requires: the range lies within the region.
  virtual bool Aliases(uint64_t /*offset*/, uint64_t /*size*/, const SharedMemoryRegion& /*other*/) const {
    return false;
  }
  // What has become of the memory since it was registered.
  virtual Status Check() const = 0;

 protected:
  SharedMemoryRegion(Kind kind, std::string name, uint64_t byte_size)
      : kind_(kind), name_(std::move(name)), byte_size_(byte_size) {}

 private:
  const Kind kind_;
  const std::string name_;
  const uint64_t byte_size_;
};

using SharedMemoryRegionPtr = std::shared_ptr<const SharedMemoryRegion>;

// A part of a region; none where there is no region. Its range lies within the region.
struct SharedMemoryPart {
  SharedMemoryRegionPtr region;
  uint64_t offset = 0;
  uint64_t byte_size = 0;
};

class SystemRegion final : public SharedMemoryRegion {
 public:
  // Maps `byte_size` bytes at `offset` of the POSIX shared memory object `key`. InvalidArg where the object is smaller,
  // or the key is none that a client may use; Internal where it can not be opened or mapped.
  static StatusOr<std::shared_ptr<SystemRegion>> Open(std::string name, std::string key, uint64_t offset,
                                                      uint64_t byte_size);
  ~SystemRegion() override;

  const std::string& key() const { return key_; }
  uint64_t offset() const { return offset_; }

  StatusOr<Slice> Read(uint64_t offset, uint64_t size, bool share) const override;
  Status Write(uint64_t offset, std::string_view bytes) const override;
  bool Aliases(uint64_t offset, uint64_t size, const SharedMemoryRegion& other) const override;
  Status Check() const override;

 private:
  // What tells objects apart, whatever their keys: one may be unlinked and its key be given to another.
  struct ObjectId {
    dev_t device;
    ino_t inode;
  };

  // The mapping begins at a page; the region `lead` bytes later.
  SystemRegion(std::string name, std::string key, ObjectId object, uint64_t offset, uint64_t byte_size, void* mapping,
               size_t lead);

  uint8_t* at(uint64_t offset) const { return static_cast<uint8_t*>(mapping_) + lead_ + offset; }

  const std::string key_;
  const ObjectId object_;
  const uint64_t offset_;
  void* const mapping_;
  const size_t lead_;
  std::optional<BusGuard> guard_;
};

}  // namespace pyinfer
