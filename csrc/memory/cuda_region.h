// SPDX-License-Identifier: Apache-2.0
// cuda_region.h - device memory of a client, by the handle of CUDA's inter-process communication.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "memory/cuda_driver.h"
#include "memory/shm_region.h"

namespace pyinfer {

class CudaRegion final : public SharedMemoryRegion {
 public:
  // InvalidArg where there is no such device, the handle is none, or its memory is smaller.
  static StatusOr<std::shared_ptr<CudaRegion>> Open(std::string name, std::string_view handle, int64_t device_id,
                                                    uint64_t byte_size);
  ~CudaRegion() override;

  int device_id() const { return device_id_; }

  // What is shared stays on the device; see Buffer::device.
  StatusOr<Slice> Read(uint64_t offset, uint64_t size, bool share) const override;
  Status Write(uint64_t offset, std::string_view bytes) const override;
  Status Check() const override { return Status(); }

 private:
  CudaRegion(std::string name, uint64_t byte_size, const CudaDriver& driver, int device_id, CudaPointer memory);

  const CudaDriver& driver_;
  const int device_id_;
  const CudaPointer memory_;
};

}  // namespace pyinfer
