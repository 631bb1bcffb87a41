// SPDX-License-Identifier: Apache-2.0
#include "memory/cuda_memory.h"

namespace pyinfer {

CudaMemory::CudaMemory(const CudaDriver& driver, int device, CudaPointer memory, uint64_t size)
    : driver_(driver), device_(device), memory_(memory), size_(size) {}

CudaMemory::~CudaMemory() { driver_.Free(device_, memory_); }

StatusOr<std::unique_ptr<CudaMemory>> CudaMemory::Allocate(int device, uint64_t size) {
  const StatusOr<const CudaDriver*> driver = CudaDriver::Get();
  if (!driver.ok()) return driver.status();
  const StatusOr<CudaPointer> allocated = driver.value()->Allocate(device, size);
  if (!allocated.ok()) return allocated.status();
  std::unique_ptr<CudaMemory> memory(new CudaMemory(*driver.value(), device, allocated.value(), size));
  const StatusOr<CudaIpcHandle> handle = driver.value()->HandleOf(device, allocated.value());
  if (!handle.ok()) return handle.status();
  memory->handle_ = handle.value();
  return memory;
}

Status CudaMemory::Write(uint64_t offset, std::string_view bytes) {
  if (offset > size_ || bytes.size() > size_ - offset) return Status::InvalidArg("the bytes do not fit the memory");
  return driver_.CopyToDevice(device_, memory_ + offset, bytes.data(), bytes.size());
}

}  // namespace pyinfer
