// SPDX-License-Identifier: Apache-2.0
#include "memory/buffer.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "memory/pool.h"

namespace pyinfer {
namespace {

// Memory of malloc, as GrowingBuffer collects it.
class MallocBuffer final : public Buffer {
 public:
  MallocBuffer(uint8_t* data, size_t size) : Buffer(data, size) {}
  ~MallocBuffer() override { std::free(data_); }
};

class StringBuffer final : public Buffer {
 public:
  explicit StringBuffer(std::string bytes) : Buffer(nullptr, bytes.size()), bytes_(std::move(bytes)) {
    data_ = reinterpret_cast<uint8_t*>(bytes_.data());
  }

 private:
  std::string bytes_;
};

}  // namespace

BufferPtr Buffer::Allocate(size_t size) { return Pool::Default().Allocate(size); }

BufferPtr Buffer::FromString(std::string bytes) { return std::make_shared<StringBuffer>(std::move(bytes)); }

Slice Slice::Copy(const void* data, size_t size) {
  BufferPtr buffer = Buffer::Allocate(size);
  if (size != 0) std::memcpy(buffer->data(), data, size);
  return Slice(std::move(buffer), 0, size);
}

GrowingBuffer::~GrowingBuffer() { std::free(data_); }

GrowingBuffer& GrowingBuffer::operator=(GrowingBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(capacity_, other.capacity_);
  return *this;
}

void GrowingBuffer::Reserve(size_t capacity) {
  if (capacity <= capacity_) return;
  size_t grown = std::max(capacity, capacity_ * 2);
  void* moved = std::realloc(data_, grown + kBufferPadding);
  if (moved == nullptr) throw std::bad_alloc();
  data_ = static_cast<uint8_t*>(moved);
  capacity_ = grown;
}

void GrowingBuffer::Append(const void* bytes, size_t size) {
  if (size == 0) return;
  std::memcpy(Prepare(size), bytes, size);
  size_ += size;
}

uint8_t* GrowingBuffer::Prepare(size_t size) {
  Reserve(size_ + size);
  return data_ + size_;
}

Slice GrowingBuffer::Take() {
  if (data_ == nullptr) return Slice::Copy(nullptr, 0);
  std::memset(data_ + size_, 0, kBufferPadding);
  auto owner = std::make_shared<MallocBuffer>(data_, size_);
  data_ = nullptr;
  size_ = capacity_ = 0;
  return Slice(std::move(owner));
}

}  // namespace pyinfer
