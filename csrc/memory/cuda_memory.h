// SPDX-License-Identifier: Apache-2.0
// cuda_memory.h - device memory of this process that other processes can open.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "memory/cuda_driver.h"

namespace pyinfer {

// Any thread.
class CudaMemory {
 public:
  // InvalidArg without a driver or such a device, or where it has not so much memory.
  static StatusOr<std::unique_ptr<CudaMemory>> Allocate(int device, uint64_t size);
  // Whoever has opened it has to be done with it.
  ~CudaMemory();
  CudaMemory(const CudaMemory&) = delete;
  CudaMemory& operator=(const CudaMemory&) = delete;

  const CudaIpcHandle& handle() const { return handle_; }
  // Blocks until the bytes are there. InvalidArg where they do not fit.
  Status Write(uint64_t offset, std::string_view bytes);

 private:
  CudaMemory(const CudaDriver& driver, int device, CudaPointer memory, uint64_t size);

  const CudaDriver& driver_;
  const int device_;
  const CudaPointer memory_;
  const uint64_t size_;
  CudaIpcHandle handle_{};
};

}  // namespace pyinfer
