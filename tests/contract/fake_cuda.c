// SPDX-License-Identifier: Apache-2.0
// fake_cuda.c - a libcuda.so.1 whose device memory is shared memory of the host, and which notes what it is asked for.
//
// A handle is the key of a shared memory object, filled up with zeros. Device pointers are host pointers with a bit
// that no address has: memory that is reached without the driver ends the process.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
  char bytes[64];
} Handle;

#define DEVICE_BIT (1ULL << 62)
#define INVALID_VALUE 1
#define INVALID_CONTEXT 201

static size_t sizes;
static __thread int current;

static void note(const char* call) {
  FILE* log = fopen(getenv("FAKE_CUDA_LOG"), "a");
  fprintf(log, "%s\n", call);
  fclose(log);
}

int cuInit(unsigned flags) { return (int)flags; }
int cuDeviceGetCount(int* count) { return *count = 1, 0; }
int cuDeviceGet(int* device, int number) { return *device = number, number != 0; }
int cuDevicePrimaryCtxRetain(void** context, int device) { return *context = &sizes, device != 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return device != 0; }
int cuCtxPushCurrent_v2(void* context) { return ++current, context != &sizes; }
int cuCtxPopCurrent_v2(void** context) { return --current, *context = &sizes, 0; }

int cuIpcOpenMemHandle_v2(uint64_t* pointer, Handle handle, unsigned flags) {
  if (current != 1) return INVALID_CONTEXT;
  if (flags != 1 || handle.bytes[0] != '/' || handle.bytes[63] != 0) return INVALID_VALUE;
  const int object = shm_open(handle.bytes, O_RDWR, 0);
  struct stat facts;
  if (object < 0 || fstat(object, &facts) != 0) return INVALID_VALUE;
  sizes = (size_t)facts.st_size;
  *pointer = (uint64_t)mmap(NULL, sizes, PROT_READ | PROT_WRITE, MAP_SHARED, object, 0) | DEVICE_BIT;
  close(object);
  note("open");
  return 0;
}
int cuIpcCloseMemHandle(uint64_t pointer) {
  note("close");
  return current == 1 ? munmap((void*)(pointer & ~DEVICE_BIT), sizes) : INVALID_CONTEXT;
}
int cuMemGetAddressRange_v2(uint64_t* base, size_t* size, uint64_t pointer) {
  return *base = pointer, *size = sizes, current == 1 ? 0 : INVALID_CONTEXT;
}
int cuMemcpyDtoH_v2(void* to, uint64_t from, size_t size) {
  note("to host");
  return memcpy(to, (void*)(from & ~DEVICE_BIT), size), current == 1 ? 0 : INVALID_CONTEXT;
}
int cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t size) {
  note("to device");
  return memcpy((void*)(to & ~DEVICE_BIT), from, size), current == 1 ? 0 : INVALID_CONTEXT;
}
