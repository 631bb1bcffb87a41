// SPDX-License-Identifier: Apache-2.0
#include "memory/cuda_region.h"

#include <algorithm>
#include <utility>

namespace pyinfer {
namespace {

// A part of a region, which it keeps open.
class DeviceBuffer final : public Buffer {
 public:
  DeviceBuffer(std::shared_ptr<const SharedMemoryRegion> region, const CudaDriver& driver, int device,
               CudaPointer memory, size_t size)
      : Buffer(reinterpret_cast<uint8_t*>(memory), size),
        region_(std::move(region)),
        driver_(driver),
        device_(device) {}

  bool foreign() const override { return true; }
  std::optional<int> device() const override { return device_; }
  Status CopyToHost(void* to, const uint8_t* from, size_t size) const override {
    return size == 0 ? Status() : driver_.CopyToHost(device_, to, reinterpret_cast<CudaPointer>(from), size);
  }

 private:
  const std::shared_ptr<const SharedMemoryRegion> region_;
  const CudaDriver& driver_;
  const int device_;
};

}  // namespace

StatusOr<std::shared_ptr<CudaRegion>> CudaRegion::Open(std::string name, std::string_view handle, int64_t device_id,
                                                       uint64_t byte_size) {
  const auto refused = [&](const std::string& why) {
    return Status::InvalidArg("failed to register CUDA shared memory region '" + name + "': " + why);
  };
  CudaIpcHandle opaque{};
  if (handle.size() != opaque.bytes.size()) {
    return refused("its handle has " + std::to_string(handle.size()) + " bytes, a cudaIpcMemHandle_t has " +
                   std::to_string(opaque.bytes.size()));
  }
  if (byte_size == 0) return refused("invalid args");
  StatusOr<const CudaDriver*> driver = CudaDriver::Get();
  if (!driver.ok()) return refused(driver.status().message());
  if (device_id < 0 || device_id >= driver.value()->device_count()) {
    return refused("there is no CUDA device " + std::to_string(device_id));
  }
  const auto device = static_cast<int>(device_id);
  std::copy(handle.begin(), handle.end(), opaque.bytes.begin());
  StatusOr<CudaPointer> memory = driver.value()->OpenIpc(device, opaque);
  if (!memory.ok()) return refused(memory.status().message());
  const uint64_t pointer = memory.value();
  std::shared_ptr<CudaRegion> region(new CudaRegion(name, byte_size, *driver.value(), device, pointer));
  StatusOr<uint64_t> size = driver.value()->SizeOf(device, pointer);
  if (!size.ok()) return refused(size.status().message());
  if (byte_size > size.value()) return refused("invalid args");
  return region;
}

CudaRegion::CudaRegion(std::string name, uint64_t byte_size, const CudaDriver& driver, int device_id,
                       CudaPointer memory)
    : SharedMemoryRegion(Kind::kCuda, std::move(name), byte_size),
      driver_(driver),
      device_id_(device_id),
      memory_(memory) {}

CudaRegion::~CudaRegion() { driver_.CloseIpc(device_id_, memory_); }

StatusOr<Slice> CudaRegion::Read(uint64_t offset, uint64_t size, bool share) const {
  const Slice part(std::make_shared<DeviceBuffer>(shared_from_this(), driver_, device_id_, memory_ + offset,
                                                  static_cast<size_t>(size)));
  if (share) return part;
  return part.CopyToHost();
}

Status CudaRegion::Write(uint64_t offset, std::string_view bytes) const {
  return driver_.CopyToDevice(device_id_, memory_ + offset, bytes.data(), bytes.size());
}

}  // namespace pyinfer
