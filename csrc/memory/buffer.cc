// SPDX-License-Identifier: Apache-2.0
#include "memory/buffer.h"

#include <algorithm>

#include "memory/pool.h"

namespace pyinfer {
namespace {

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

Status Buffer::CopyToHost(void* to, const uint8_t* from, size_t size) const {
  if (size != 0) std::memcpy(to, from, size);
  return Status();
}

StatusOr<Slice> Slice::CopyToHost() const {
  BufferPtr host = Buffer::Allocate(size_);
  if (owner_) {
    if (Status status = owner_->CopyToHost(host->data(), data_, size_); !status.ok()) return status;
  }
  return Slice(std::move(host), 0, size_);
}

Slice Slice::Copy(const void* data, size_t size) {
  BufferPtr buffer = Buffer::Allocate(size);
  if (size != 0) std::memcpy(buffer->data(), data, size);
  return Slice(std::move(buffer), 0, size);
}

GrowingBuffer& GrowingBuffer::operator=(GrowingBuffer&& other) noexcept {
  block_ = std::move(other.block_);
  size_ = std::exchange(other.size_, 0);
  expected_ = std::exchange(other.expected_, 0);
  return *this;
}

void GrowingBuffer::Append(const void* bytes, size_t size) {
  if (size == 0) return;
  std::memcpy(Prepare(size), bytes, size);
  size_ += size;
}

uint8_t* GrowingBuffer::Prepare(size_t size) {
  const size_t needed = size_ + size;
  const size_t capacity = block_ ? block_->size() : 0;
  if (needed > capacity || !block_) {
    const size_t expected = std::min(expected_, needed * kGrowth);
    BufferPtr grown = Buffer::Allocate(std::max({needed, expected, capacity * 2}));
    if (size_ != 0) std::memcpy(grown->data(), block_->data(), size_);
    block_ = std::move(grown);
  }
  return block_->data() + size_;
}

Slice GrowingBuffer::Take() {
  if (!block_) return Slice::Copy(nullptr, 0);
  Slice taken(std::move(block_), 0, size_);
  block_ = nullptr;
  size_ = expected_ = 0;
  return taken;
}

}  // namespace pyinfer
