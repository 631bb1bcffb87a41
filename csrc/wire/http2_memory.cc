// SPDX-License-Identifier: Apache-2.0
#include "wire/http2_memory.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>

#include "memory/recycler.h"

namespace pyinfer {
namespace {

// Before each block, because nghttp2 does not tell the size of what it frees.
struct alignas(16) Header {
  size_t size;
};

void* Malloc(size_t size, void*) {
  if (size > std::numeric_limits<size_t>::max() - sizeof(Header)) return nullptr;
  try {
    auto* const header = static_cast<Header*>(Recycler::Allocate(sizeof(Header) + size));
    header->size = size;
    return header + 1;
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void Free(void* block, void*) {
  if (block == nullptr) return;
  Header* const header = static_cast<Header*>(block) - 1;
  Recycler::Free(header, sizeof(Header) + header->size);
}

void* Calloc(size_t count, size_t size, void* user) {
  if (size != 0 && count > std::numeric_limits<size_t>::max() / size) return nullptr;
  void* const block = Malloc(count * size, user);
  if (block != nullptr) std::memset(block, 0, count * size);
  return block;
}

void* Realloc(void* block, size_t size, void* user) {
  void* const grown = Malloc(size, user);
  if (grown == nullptr || block == nullptr) return grown;
  std::memcpy(grown, block, std::min(size, (static_cast<Header*>(block) - 1)->size));
  Free(block, user);
  return grown;
}

}  // namespace

nghttp2_mem RecyclingMemory() { return {nullptr, Malloc, Free, Calloc, Realloc}; }

}  // namespace pyinfer
