// SPDX-License-Identifier: Apache-2.0
#include "memory/shm_region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <limits>
#include <utility>

namespace pyinfer {
namespace {

// What Triton's Python backend calls its own memory: no client may have it mapped.
constexpr std::string_view kReservedPrefix = "triton_python_backend_shm_region_";
constexpr size_t kMaxKey = 255;

// Bytes of a region, where they are.
class RegionBuffer final : public Buffer {
 public:
  RegionBuffer(SharedMemoryRegionPtr region, uint8_t* data, size_t size)
      : Buffer(data, size), region_(std::move(region)) {}

  bool foreign() const override { return true; }

 private:
  const SharedMemoryRegionPtr region_;
};

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

Status CheckKey(const std::string& name, const std::string& key) {
  const size_t begin = key.find_first_not_of('/');
  if (begin == std::string::npos || key.size() > kMaxKey || key.find('\0') != std::string::npos) {
    return Status::InvalidArg("cannot register shared memory region '" + name +
                              "': its key is empty, too long, or has nothing but slashes");
  }
  if (std::string_view(key).substr(begin, kReservedPrefix.size()) == kReservedPrefix) {
    return Status::InvalidArg("cannot register shared memory region '" + name + "' with key '" + key +
                              "' as the key contains the reserved prefix '" + std::string(kReservedPrefix) + "'");
  }
  return Status();
}

Status InvalidArgs(const std::string& name) {
  return Status::InvalidArg("failed to register shared memory region '" + name + "': invalid args");
}

}  // namespace

StatusOr<std::shared_ptr<SystemRegion>> SystemRegion::Open(std::string name, std::string key, uint64_t offset,
                                                           uint64_t byte_size) {
  if (Status status = CheckKey(name, key); !status.ok()) return status;
  const Descriptor object(shm_open(key.c_str(), O_RDWR | O_CLOEXEC, 0));
  if (object.fd() < 0) return Status::Internal("Unable to open shared memory region: '" + key + "'");
  struct stat facts = {};
  if (fstat(object.fd(), &facts) != 0 || facts.st_size < 0) return InvalidArgs(name);
  const auto size = static_cast<uint64_t>(facts.st_size);
  if (byte_size == 0 || offset > size || byte_size > size - offset) return InvalidArgs(name);
  const size_t lead = static_cast<size_t>(offset) % static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const mapping = mmap(nullptr, static_cast<size_t>(byte_size) + lead, PROT_READ | PROT_WRITE, MAP_SHARED,
                             object.fd(), static_cast<off_t>(offset - lead));
  if (mapping == MAP_FAILED) return Status::Internal("Unable to map shared memory region: '" + name + "'");
  return std::shared_ptr<SystemRegion>(new SystemRegion(std::move(name), std::move(key), {facts.st_dev, facts.st_ino},
                                                        offset, byte_size, mapping, lead));
}

SystemRegion::SystemRegion(std::string name, std::string key, ObjectId object, uint64_t offset, uint64_t byte_size,
                           void* mapping, size_t lead)
    : SharedMemoryRegion(Kind::kSystem, std::move(name), byte_size),
      key_(std::move(key)),
      object_(object),
      offset_(offset),
      mapping_(mapping),
      lead_(lead) {
  guard_.emplace(mapping_, lead_ + static_cast<size_t>(byte_size));
}

SystemRegion::~SystemRegion() {
  guard_.reset();
  munmap(mapping_, lead_ + static_cast<size_t>(byte_size()));
}

StatusOr<Slice> SystemRegion::Read(uint64_t offset, uint64_t size, bool share) const {
  if (!share) {
    Slice copy = Slice::Copy(at(offset), static_cast<size_t>(size));
    if (Status status = Check(); !status.ok()) return status;
    return copy;
  }
  return Slice(std::make_shared<RegionBuffer>(shared_from_this(), at(offset), static_cast<size_t>(size)));
}

Status SystemRegion::Write(uint64_t offset, std::string_view bytes) const {
  // The bytes may come from the same region; where they come from one that this one aliases, the caller has copied
  // them.
  std::memmove(at(offset), bytes.data(), bytes.size());
  return Check();
}

bool SystemRegion::Aliases(uint64_t offset, uint64_t size, const SharedMemoryRegion& other) const {
  if (&other == this || other.kind() != Kind::kSystem) return false;
  const auto& system = static_cast<const SystemRegion&>(other);
  if (system.object_.device != object_.device || system.object_.inode != object_.inode) return false;
  const uint64_t begin = offset_ + offset;
  return begin < system.offset_ + system.byte_size() && system.offset_ < begin + size;
}

Status SystemRegion::Check() const {
  if (!guard_->broken()) return Status();
  return Status::InvalidArg("the shared memory region '" + name() +
                            "' is not there any more as it was registered: its owner has shortened it; unregister it");
}

}  // namespace pyinfer
