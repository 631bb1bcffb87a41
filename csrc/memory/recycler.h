// SPDX-License-Identifier: Apache-2.0
// recycler.h - small blocks of memory that are used again.
//
// A server that has dozens of requests in flight allocates and frees the same few sizes over and over. malloc keeps
// seven blocks of a size at hand for each thread; beyond these, blocks are merged when freed and split when allocated,
// which costs many times as much. Here each thread keeps more of them. Any thread may free a block; it is that thread's
// then. Under a sanitizer everything is left to malloc, which sees what is used after it was freed.
#pragma once

#include <cstddef>
#include <functional>
#include <unordered_map>
#include <utility>

namespace pyinfer {

class Recycler {
 public:
  // Blocks beyond this size are left to malloc.
  static constexpr size_t kLargest = 1024;

  // `size` bytes, aligned to 16. Throws std::bad_alloc.
  static void* Allocate(size_t size);
  // Requires: `block` is from Allocate(size), or null.
  static void Free(void* block, size_t size) noexcept;
};

// For objects and containers of the standard library.
template <typename T>
struct RecyclingAllocator {
  using value_type = T;

  RecyclingAllocator() = default;
  template <typename U>
  RecyclingAllocator(const RecyclingAllocator<U>&) noexcept {}  // NOLINT: implicit, as allocators are

  T* allocate(size_t count) {
    static_assert(alignof(T) <= 16);
    return static_cast<T*>(Recycler::Allocate(count * sizeof(T)));
  }
  void deallocate(T* block, size_t count) noexcept { Recycler::Free(block, count * sizeof(T)); }

  friend bool operator==(const RecyclingAllocator&, const RecyclingAllocator&) { return true; }
  friend bool operator!=(const RecyclingAllocator&, const RecyclingAllocator&) { return false; }
};

template <typename Key, typename Value>
using RecyclingMap =
    std::unordered_map<Key, Value, std::hash<Key>, std::equal_to<Key>, RecyclingAllocator<std::pair<const Key, Value>>>;

}  // namespace pyinfer
