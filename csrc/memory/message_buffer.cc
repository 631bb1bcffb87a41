// SPDX-License-Identifier: Apache-2.0
#include "memory/message_buffer.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace pyinfer {

size_t MessageBuffer::Bought(size_t received) const { return received > size_ / kBought ? size_ : received * kBought; }

bool MessageBuffer::MayGrow(size_t received) const {
  return block_->size() < size_ && Bought(received) >= std::min(size_, 2 * block_->size());
}

BufferPtr MessageBuffer::Grow(size_t received) {
  BufferPtr grown = Buffer::Allocate(Bought(received));
  if (received_ != 0) std::memcpy(grown->data(), block_->data(), received_);
  return std::exchange(block_, std::move(grown));
}

void MessageBuffer::Append(const uint8_t* bytes, size_t size) {
  if (size == 0) return;
  BufferPtr outgrown;  // `bytes` may lie in it
  if (!block_ || size > block_->size() - received_ || MayGrow(received_ + size)) outgrown = Grow(received_ + size);
  uint8_t* const to = block_->data() + received_;
  if (bytes != to) std::memmove(to, bytes, size);
  received_ += size;
}

Space MessageBuffer::OpenSpace(size_t least, size_t most) {
  if (!block_ || left() < least) return {};
  if (MayGrow(received_)) Grow(received_);
  const size_t room = block_->size() - received_;
  if (room < least) return {};
  return {block_, block_->data() + received_, std::min(most, room)};
}

Slice MessageBuffer::Take() {
  if (!block_) return Slice::Copy(nullptr, 0);
  Slice taken(std::exchange(block_, nullptr), 0, size_);
  size_ = received_ = 0;
  return taken;
}

}  // namespace pyinfer
