// SPDX-License-Identifier: Apache-2.0
// buffer.h - ref-counted bytes, and slices of them.
//
// A Buffer is a block of memory with a count of owners; the last owner frees it on whatever thread it is, without any
// lock of an interpreter. A Slice is a range of a Buffer that keeps it alive: tensors, messages and answers are slices,
// so that handing data on never copies it. The bytes of a buffer are written before it is shared and never after.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"

namespace pyinfer {

// Extra readable bytes behind every buffer made by Buffer::Allocate: the JSON parser reads past the end in wide steps.
inline constexpr size_t kBufferPadding = 64;

class Buffer {
 public:
  virtual ~Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // Uninitialised memory of `size` bytes, aligned to 16, with kBufferPadding readable bytes behind.
  static std::shared_ptr<Buffer> Allocate(size_t size);
  // Takes the string's memory over. No padding is promised.
  static std::shared_ptr<Buffer> FromString(std::string bytes);

  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

  // False where somebody may still write to the bytes: they must be copied before they are handed on. What it takes to
  // ask is told by those who make such buffers.
  virtual bool settled() const { return true; }
  // True where nobody may write to the bytes: they are shared with others, or a client's, who may do so at any time.
  virtual bool foreign() const { return false; }

  // The CUDA device that the bytes are on; nothing for memory of the host. data() is an address of the device then:
  // whoever may meet such a buffer asks before it reads.
  virtual std::optional<int> device() const { return std::nullopt; }
  // Copies bytes of this buffer to memory of the host, wherever they are. Requires: they lie within the buffer.
  virtual Status CopyToHost(void* to, const uint8_t* from, size_t size) const;

 protected:
  Buffer(uint8_t* data, size_t size) : data_(data), size_(size) {}

  uint8_t* data_;
  size_t size_;
};

using BufferPtr = std::shared_ptr<Buffer>;

class Slice {
 public:
  Slice() = default;
  explicit Slice(BufferPtr owner)
      : owner_(std::move(owner)), data_(owner_ ? owner_->data() : nullptr), size_(owner_ ? owner_->size() : 0) {}
  // Requires: [offset, offset + size) lies inside the buffer.
  Slice(BufferPtr owner, size_t offset, size_t size)
      : owner_(std::move(owner)), data_(owner_->data() + offset), size_(size) {}

  static Slice Copy(const void* data, size_t size);

  // Requires: offset + size <= this->size().
  Slice Sub(size_t offset, size_t size) const {
    Slice part = *this;
    part.data_ += offset;
    part.size_ = size;
    return part;
  }

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  // Takes `next` in where it lies right behind this in the same buffer; false, and no change, where it does not.
  bool Extend(const Slice& next) {
    if (owner_ != next.owner_ || data_ + size_ != next.data_) return false;
    size_ += next.size_;
    return true;
  }

  bool empty() const { return size_ == 0; }
  bool settled() const { return !owner_ || owner_->settled(); }
  bool foreign() const { return owner_ && owner_->foreign(); }
  std::optional<int> device() const { return owner_ ? owner_->device() : std::nullopt; }
  // A copy in memory of the host.
  StatusOr<Slice> CopyToHost() const;
  // Requires: the bytes are in memory of the host, here and wherever they are read.
  std::string_view view() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  BufferPtr owner_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Bytes that arrive in pieces. Grows with what has been received, never to what was merely announced: an announcement
// only lets it grow faster.
class GrowingBuffer {
 public:
  GrowingBuffer() = default;
  GrowingBuffer(GrowingBuffer&& other) noexcept { *this = std::move(other); }
  GrowingBuffer& operator=(GrowingBuffer&& other) noexcept;
  GrowingBuffer(const GrowingBuffer&) = delete;
  GrowingBuffer& operator=(const GrowingBuffer&) = delete;

  // How many bytes there will probably be in all.
  void Expect(size_t size) { expected_ = size; }

  void Append(const void* bytes, size_t size);
  // Room for `size` more bytes, to be written by the caller; they count once Commit is called.
  uint8_t* Prepare(size_t size);
  void Commit(size_t size) { size_ += size; }
  const uint8_t* data() const { return block_ ? block_->data() : nullptr; }
  size_t size() const { return size_; }

  // The bytes so far as one slice (with kBufferPadding readable bytes behind); this buffer is empty afterwards.
  Slice Take();

 private:
  // Received bytes buy this many times their size in memory.
  static constexpr size_t kGrowth = 8;

  BufferPtr block_;
  size_t size_ = 0;
  size_t expected_ = 0;
};

}  // namespace pyinfer
