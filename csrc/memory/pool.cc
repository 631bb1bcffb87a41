// SPDX-License-Identifier: Apache-2.0
#include "memory/pool.h"

#include <cstdlib>
#include <new>

#include "memory/recycler.h"

namespace pyinfer {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kDefaultKeptBytes = size_t{128} << 20;

uint8_t* AllocateBlock(size_t size) {
  const size_t rounded = (size + kBufferPadding + kAlignment - 1) / kAlignment * kAlignment;
  void* block = std::aligned_alloc(kAlignment, rounded);
  if (block == nullptr) throw std::bad_alloc();
  return static_cast<uint8_t*>(block);
}

class PlainBuffer final : public Buffer {
 public:
  explicit PlainBuffer(size_t size) : Buffer(AllocateBlock(size), size) {}
  ~PlainBuffer() override { std::free(data_); }
};

// Object, count and bytes in one allocation: most messages are this small.
class SmallBuffer final : public Buffer {
 public:
  static constexpr size_t kSize = 512;
  explicit SmallBuffer(size_t size) : Buffer(bytes_, size) {}

 private:
  alignas(16) uint8_t bytes_[kSize + kBufferPadding];
};

}  // namespace

class PooledBuffer final : public Buffer {
 public:
  PooledBuffer(Pool& pool, uint8_t* block, size_t size, size_t size_class)
      : Buffer(block, size), pool_(pool), size_class_(size_class) {}
  ~PooledBuffer() override { pool_.Release(data_, size_class_); }

 private:
  Pool& pool_;
  const size_t size_class_;
};

Pool::Pool(size_t max_kept_bytes) : max_kept_bytes_(max_kept_bytes) {}

Pool::~Pool() {
  for (auto& blocks : free_) {
    for (uint8_t* block : blocks) std::free(block);
  }
}

Pool& Pool::Default() {
  static Pool* pool = new Pool(kDefaultKeptBytes);
  return *pool;
}

BufferPtr Pool::Allocate(size_t size) {
  if (size <= SmallBuffer::kSize) return std::allocate_shared<SmallBuffer>(RecyclingAllocator<SmallBuffer>(), size);
  size_t size_class = kSmallestClass;
  while (size_class <= kLargestClass && (size_t{1} << size_class) < size) ++size_class;
  if (size <= (size_t{1} << (kSmallestClass - 1)) || size_class > kLargestClass) {
    return std::make_shared<PlainBuffer>(size);
  }
  uint8_t* block = nullptr;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    auto& blocks = free_[size_class];
    if (!blocks.empty()) {
      block = blocks.back();
      blocks.pop_back();
      kept_bytes_ -= size_t{1} << size_class;
    }
  }
  if (block == nullptr) block = AllocateBlock(size_t{1} << size_class);
  return std::make_shared<PooledBuffer>(*this, block, size, size_class);
}

void Pool::Release(uint8_t* block, size_t size_class) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const size_t size = size_t{1} << size_class;
    if (kept_bytes_ + size <= max_kept_bytes_) {
      free_[size_class].push_back(block);
      kept_bytes_ += size;
      return;
    }
  }
  std::free(block);
}

size_t Pool::kept_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return kept_bytes_;
}

}  // namespace pyinfer
