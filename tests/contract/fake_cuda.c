// SPDX-License-Identifier: Apache-2.0
// fake_cuda.c - a libcuda.so.1 whose device memory is shared memory of the host, and which notes what it is asked for.
//
// A handle is the key of a shared memory object, filled up with zeros. Device pointers are host pointers with a bit
// that no address has: memory that is reached without the driver ends the process. Memory goes with the last reference
// to the primary context, as with the real driver.
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

static uint64_t opened[64];
static size_t sizes[64];  // of what was opened
static int references;
static char keys[8][64];  // of what was allocated here
static uint64_t allocated[8];
static __thread int current;

static void note(const char* call) {
  FILE* log = fopen(getenv("FAKE_CUDA_LOG"), "a");
  fprintf(log, "%s\n", call);
  fclose(log);
}

int cuInit(unsigned flags) { return (int)flags; }
int cuDeviceGetCount(int* count) { return *count = 1, 0; }
// One that nvidia-smi would show as GPU-00010203-0405-0607-0809-0a0b0c0d0e0f, of compute capability 9.0.
int cuDeviceGetUuid(unsigned char* uuid, int device) {
  for (int i = 0; i < 16; ++i) uuid[i] = (unsigned char)i;
  return device != 0;
}
int cuDeviceGetAttribute(int* value, int attribute, int device) { return *value = attribute == 75 ? 9 : 0, device != 0; }
int cuDeviceGet(int* device, int number) { return *device = number, number != 0; }
int cuDevicePrimaryCtxRetain(void** context, int device) { return ++references, *context = &references, device != 0; }
int cuDevicePrimaryCtxRelease_v2(int device) {
  if (--references == 0) memset(opened, 0, sizeof opened);
  return device != 0;
}
int cuCtxPushCurrent_v2(void* context) { return ++current, context != &references; }
int cuCtxPopCurrent_v2(void** context) { return --current, *context = &references, 0; }

static int place_of(uint64_t pointer) {
  for (int i = 0; i < 64; ++i) {
    if (opened[i] == pointer) return i;
  }
  abort();
}

// Device memory that is reached lies in what was opened or allocated.
static int lives(uint64_t pointer) {
  if (current != 1 || references < 1) return 0;
  for (int i = 0; i < 64; ++i) {
    if (opened[i] != 0 && opened[i] <= pointer && pointer < opened[i] + sizes[i]) return 1;
    if (i < 8 && allocated[i] != 0 && allocated[i] <= pointer) return 1;
  }
  return 0;
}

int cuIpcOpenMemHandle_v2(uint64_t* pointer, Handle handle, unsigned flags) {
  if (current != 1 || references < 1) return INVALID_CONTEXT;
  if (flags != 1 || handle.bytes[0] != '/' || handle.bytes[63] != 0) return INVALID_VALUE;
  const int object = shm_open(handle.bytes, O_RDWR, 0);
  struct stat facts;
  if (object < 0 || fstat(object, &facts) != 0) return INVALID_VALUE;
  const int place = place_of(0);
  sizes[place] = (size_t)facts.st_size;
  *pointer = (uint64_t)mmap(NULL, sizes[place], PROT_READ | PROT_WRITE, MAP_SHARED, object, 0) | DEVICE_BIT;
  opened[place] = *pointer;
  close(object);
  note("open");
  return 0;
}
int cuIpcCloseMemHandle(uint64_t pointer) {
  if (current != 1 || references < 1) return INVALID_CONTEXT;
  const int place = place_of(pointer);
  opened[place] = 0;
  note("close");
  return munmap((void*)(pointer & ~DEVICE_BIT), sizes[place]);
}
int cuMemGetAddressRange_v2(uint64_t* base, size_t* size, uint64_t pointer) {
  return *base = pointer, *size = sizes[place_of(pointer)], current == 1 && references > 0 ? 0 : INVALID_CONTEXT;
}
int cuMemcpyDtoH_v2(void* to, uint64_t from, size_t size) {
  if (!lives(from)) return INVALID_CONTEXT;
  note("to host");
  return memcpy(to, (void*)(from & ~DEVICE_BIT), size), 0;
}
int cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t size) {
  if (!lives(to)) return INVALID_CONTEXT;
  note("to device");
  return memcpy((void*)(to & ~DEVICE_BIT), from, size), 0;
}
int cuMemAlloc_v2(uint64_t* pointer, size_t size) {
  for (int i = 0; i < 8; ++i) {
    if (allocated[i] != 0) continue;
    sprintf(keys[i], "/fake_cuda_%d_%d", getpid(), i);
    const int object = shm_open(keys[i], O_RDWR | O_CREAT | O_EXCL, 0600);
    if (current != 1 || object < 0 || ftruncate(object, (off_t)size) != 0) return INVALID_VALUE;
    allocated[i] = (uint64_t)mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, object, 0) | DEVICE_BIT;
    close(object);
    note("allocate");
    return *pointer = allocated[i], 0;
  }
  return INVALID_VALUE;
}
int cuIpcGetMemHandle(Handle* handle, uint64_t pointer) {
  for (int i = 0; i < 8; ++i) {
    if (allocated[i] == pointer) return memcpy(handle, keys[i], sizeof *handle), 0;
  }
  return INVALID_VALUE;
}
int cuMemFree_v2(uint64_t pointer) {
  for (int i = 0; i < 8; ++i) {
    if (allocated[i] == pointer) return allocated[i] = 0, note("free"), shm_unlink(keys[i]);
  }
  return INVALID_VALUE;
}
