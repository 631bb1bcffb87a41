// SPDX-License-Identifier: Apache-2.0
#include "memory/cuda_driver.h"

#include <dlfcn.h>

#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <type_traits>

namespace pyinfer {
namespace {

using Result = int;  // CUresult
using Device = int;  // CUdevice
struct ContextTag;
using Context = ContextTag*;  // CUcontext

constexpr Result kSuccess = 0;
constexpr unsigned kLazyEnablePeerAccess = 1;
constexpr int kComputeCapabilityMajor = 75, kComputeCapabilityMinor = 76;  // CUdevice_attribute

struct Uuid {  // CUuuid
  std::array<uint8_t, 16> bytes;
};

std::string TextOf(const Uuid& uuid) {
  std::string text = "GPU";
  for (size_t i = 0; i < uuid.bytes.size(); ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    std::array<char, 3> digits{};
    std::snprintf(digits.data(), digits.size(), "%02x", uuid.bytes[i]);
    text += digits.data();
  }
  return text;
}

Status Failed(const std::string& what, Result result) {
  return Status::InvalidArg("the CUDA driver could not " + what + " (error " + std::to_string(result) + ")");
}

}  // namespace

struct CudaDriver::Functions {
  Result (*init)(unsigned);
  Result (*device_get_count)(int*);
  Result (*device_get)(Device*, int);
  Result (*device_uuid)(Uuid*, Device);
  Result (*device_attribute)(int*, int, Device);
  Result (*primary_context_retain)(Context*, Device);
  Result (*context_push)(Context);
  Result (*context_pop)(Context*);
  Result (*ipc_open)(CudaPointer*, CudaIpcHandle, unsigned);
  Result (*ipc_close)(CudaPointer);
  Result (*address_range)(CudaPointer*, size_t*, CudaPointer);
  Result (*copy_to_host)(void*, CudaPointer, size_t);
  Result (*copy_to_device)(CudaPointer, const void*, size_t);
  Result (*allocate)(CudaPointer*, size_t);
  Result (*free)(CudaPointer);
  Result (*ipc_handle)(CudaIpcHandle*, CudaPointer);

  // By device. What is retained here is never released: memory goes with the last that retains its context.
  mutable std::mutex mutex;
  mutable std::map<int, Context> contexts;
};

// The primary context of a device, current on this thread.
class CudaDriver::Current {
 public:
  Current(const Functions& functions, int device) : functions_(functions) {
    const Context context = Retained(device);
    pushed_ = context != nullptr && functions_.context_push(context) == kSuccess;
  }
  ~Current() {
    Context ignored = nullptr;
    if (pushed_) functions_.context_pop(&ignored);
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

  Status status() const { return pushed_ ? Status() : Status::InvalidArg("the CUDA device can not be used"); }

 private:
  // nullptr where it can not be had.
  Context Retained(int device) const {
    const std::lock_guard<std::mutex> lock(functions_.mutex);
    const auto known = functions_.contexts.find(device);
    if (known != functions_.contexts.end()) return known->second;
    Device found = 0;
    Context context = nullptr;
    if (functions_.device_get(&found, device) != kSuccess) return nullptr;
    if (functions_.primary_context_retain(&context, found) != kSuccess) return nullptr;
    functions_.contexts.emplace(device, context);
    return context;
  }

  const Functions& functions_;
  bool pushed_ = false;
};

StatusOr<const CudaDriver*> CudaDriver::Get() {
  struct Loaded {
    CudaDriver driver;
    Status status;
  };
  static const Loaded* const loaded = [] {
    auto* made = new Loaded;
    made->status = made->driver.Load();
    return made;
  }();
  if (!loaded->status.ok()) return loaded->status;
  return &loaded->driver;
}

Status CudaDriver::Load() {
  const Status none = Status::InvalidArg("this server has no CUDA device");
  void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return none;
  auto functions = std::make_unique<Functions>();
  bool complete = true;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
    complete = complete && function != nullptr;
  };
  find(functions->init, "cuInit");
  find(functions->device_get_count, "cuDeviceGetCount");
  find(functions->device_get, "cuDeviceGet");
  find(functions->device_uuid, "cuDeviceGetUuid");
  find(functions->device_attribute, "cuDeviceGetAttribute");
  find(functions->primary_context_retain, "cuDevicePrimaryCtxRetain");
  find(functions->context_push, "cuCtxPushCurrent_v2");
  find(functions->context_pop, "cuCtxPopCurrent_v2");
  find(functions->ipc_open, "cuIpcOpenMemHandle_v2");
  find(functions->ipc_close, "cuIpcCloseMemHandle");
  find(functions->address_range, "cuMemGetAddressRange_v2");
  find(functions->copy_to_host, "cuMemcpyDtoH_v2");
  find(functions->copy_to_device, "cuMemcpyHtoD_v2");
  find(functions->allocate, "cuMemAlloc_v2");
  find(functions->free, "cuMemFree_v2");
  find(functions->ipc_handle, "cuIpcGetMemHandle");
  if (!complete) return Status::InvalidArg("the CUDA driver of this server is too old");
  if (functions->init(0) != kSuccess) return none;
  if (functions->device_get_count(&device_count_) != kSuccess || device_count_ < 1) return none;
  functions_ = functions.release();
  return Status();
}

StatusOr<CudaDevice> CudaDriver::Describe(int device) const {
  Device found = 0;
  Uuid uuid{};
  CudaDevice described;
  Result result = functions_->device_get(&found, device);
  if (result == kSuccess) result = functions_->device_uuid(&uuid, found);
  if (result == kSuccess) result = functions_->device_attribute(&described.major, kComputeCapabilityMajor, found);
  if (result == kSuccess) result = functions_->device_attribute(&described.minor, kComputeCapabilityMinor, found);
  if (result != kSuccess) return Failed("describe device " + std::to_string(device), result);
  described.uuid = TextOf(uuid);
  return described;
}

StatusOr<CudaPointer> CudaDriver::OpenIpc(int device, const CudaIpcHandle& handle) const {
  const Current current(*functions_, device);
  if (Status status = current.status(); !status.ok()) return status;
  CudaPointer memory = 0;
  const Result result = functions_->ipc_open(&memory, handle, kLazyEnablePeerAccess);
  if (result != kSuccess) return Failed("open the memory handle", result);
  return memory;
}

void CudaDriver::CloseIpc(int device, CudaPointer memory) const {
  const Current current(*functions_, device);
  if (current.status().ok()) functions_->ipc_close(memory);
}

StatusOr<CudaPointer> CudaDriver::Allocate(int device, size_t size) const {
  const Current current(*functions_, device);
  if (Status status = current.status(); !status.ok()) return status;
  CudaPointer memory = 0;
  const Result result = functions_->allocate(&memory, size);
  if (result != kSuccess) return Failed("allocate " + std::to_string(size) + " bytes", result);
  return memory;
}

void CudaDriver::Free(int device, CudaPointer memory) const {
  const Current current(*functions_, device);
  if (current.status().ok()) functions_->free(memory);
}

StatusOr<CudaIpcHandle> CudaDriver::HandleOf(int device, CudaPointer memory) const {
  const Current current(*functions_, device);
  if (Status status = current.status(); !status.ok()) return status;
  CudaIpcHandle handle{};
  const Result result = functions_->ipc_handle(&handle, memory);
  if (result != kSuccess) return Failed("share device memory with other processes", result);
  return handle;
}

StatusOr<uint64_t> CudaDriver::SizeOf(int device, CudaPointer memory) const {
  const Current current(*functions_, device);
  if (Status status = current.status(); !status.ok()) return status;
  CudaPointer base = 0;
  size_t size = 0;
  const Result result = functions_->address_range(&base, &size, memory);
  if (result != kSuccess) return Failed("tell the size of the memory", result);
  return static_cast<uint64_t>(size) - (memory - base);
}

Status CudaDriver::CopyToHost(int device, void* to, CudaPointer from, size_t size) const {
  if (size == 0) return Status();
  const Current current(*functions_, device);
  if (Status status = current.status(); !status.ok()) return status;
  const Result result = functions_->copy_to_host(to, from, size);
  return result == kSuccess ? Status() : Failed("read device memory", result);
}

Status CudaDriver::CopyToDevice(int device, CudaPointer to, const void* from, size_t size) const {
  if (size == 0) return Status();
  const Current current(*functions_, device);
  if (Status status = current.status(); !status.ok()) return status;
  const Result result = functions_->copy_to_device(to, from, size);
  return result == kSuccess ? Status() : Failed("write device memory", result);
}

}  // namespace pyinfer
