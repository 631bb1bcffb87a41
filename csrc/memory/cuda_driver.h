// SPDX-License-Identifier: Apache-2.0
// cuda_driver.h - the few functions of the CUDA driver that are needed, found at run time.
//
// libcuda.so.1 is opened when it is first asked for, never linked to: the same build serves on machines without a GPU.
// No CUDA header is needed; the declarations are those of the driver's public binary interface. Any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/status.h"

namespace pyinfer {

using CudaPointer = uint64_t;  // CUdeviceptr

// The bytes of a CUipcMemHandle (the same as those of a cudaIpcMemHandle_t).
struct CudaIpcHandle {
  std::array<char, 64> bytes;
};

struct CudaDevice {
  std::string uuid;          // "GPU-" and 32 hexadecimal digits in five groups, as nvidia-smi shows it
  int major = 0, minor = 0;  // its compute capability
};

class CudaDriver {
 public:
  // The driver of this process, or why there is none: no library, or no device.
  static StatusOr<const CudaDriver*> Get();

  int device_count() const { return device_count_; }
  StatusOr<CudaDevice> Describe(int device) const;

  // Memory of another process on `device`, mapped here until CloseIpc.
  StatusOr<CudaPointer> OpenIpc(int device, const CudaIpcHandle& handle) const;
  void CloseIpc(int device, CudaPointer memory) const;
  // Memory on `device`, until Free, which other processes can open by its handle.
  StatusOr<CudaPointer> Allocate(int device, size_t size) const;
  void Free(int device, CudaPointer memory) const;
  StatusOr<CudaIpcHandle> HandleOf(int device, CudaPointer memory) const;
  // Bytes of the allocation from `memory` on.
  StatusOr<uint64_t> SizeOf(int device, CudaPointer memory) const;
  // Both block until the bytes have been copied.
  Status CopyToHost(int device, void* to, CudaPointer from, size_t size) const;
  Status CopyToDevice(int device, CudaPointer to, const void* from, size_t size) const;

 private:
  struct Functions;
  class Current;

  CudaDriver() = default;
  Status Load();

  const Functions* functions_ = nullptr;  // never freed, like the driver itself
  int device_count_ = 0;
};

}  // namespace pyinfer
