// SPDX-License-Identifier: Apache-2.0
#include "memory/recycler.h"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

namespace pyinfer {
namespace {

constexpr bool kSanitized = sizeof(PYINFER_SANITIZER) > 1;
constexpr size_t kStep = 64;
constexpr size_t kClasses = Recycler::kLargest / kStep;
// Blocks of one size that a thread keeps: as many as a full connection or two have in flight.
constexpr uint32_t kKept = 128;

struct Block {
  Block* next;
};

// What a thread keeps, by size. Has no destructor, so that it is there for whatever is freed at the thread's very end.
struct Blocks {
  std::array<Block*, kClasses> first;
  std::array<uint32_t, kClasses> count;
  enum : uint8_t { kNew, kOpen, kClosed } state;
};
thread_local Blocks blocks;

// Frees what the thread keeps when it ends.
struct Closer {
  ~Closer() {
    blocks.state = Blocks::kClosed;
    for (Block*& first : blocks.first) {
      while (first != nullptr) std::free(std::exchange(first, first->next));
    }
  }
  void Arm() { blocks.state = Blocks::kOpen; }
};
thread_local Closer closer;

void* Malloc(size_t size) {
  void* const block = std::malloc(size);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

}  // namespace

void* Recycler::Allocate(size_t size) {
  if (kSanitized || size > kLargest || size == 0) return Malloc(size);
  const size_t index = (size - 1) / kStep;
  Block* const block = blocks.first[index];
  if (block == nullptr) return Malloc((index + 1) * kStep);
  blocks.first[index] = block->next;
  --blocks.count[index];
  return block;
}

void Recycler::Free(void* memory, size_t size) noexcept {
  if (kSanitized || size > kLargest || size == 0 || memory == nullptr) return std::free(memory);
  if (blocks.state != Blocks::kOpen) {
    if (blocks.state == Blocks::kClosed) return std::free(memory);
    closer.Arm();
  }
  const size_t index = (size - 1) / kStep;
  if (blocks.count[index] == kKept) return std::free(memory);
  auto* const block = static_cast<Block*>(memory);
  block->next = blocks.first[index];
  blocks.first[index] = block;
  ++blocks.count[index];
}

}  // namespace pyinfer
