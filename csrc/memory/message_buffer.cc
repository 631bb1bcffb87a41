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
  size_t from = 0;
  const auto move_until = [&](size_t to) {
    if (to > from) std::memcpy(grown->data() + from, block_->data() + from, to - from);
  };
  for (const Apart& apart : apart_) {
    move_until(apart.offset);
    from = apart.end;
  }
  move_until(received_);
  return std::exchange(block_, std::move(grown));
}

const MessageBuffer::Apart* MessageBuffer::current() const {
  return !apart_.empty() && received_ < apart_.back().end ? &apart_.back() : nullptr;
}

std::string_view MessageBuffer::begun() const {
  if (!block_) return {};
  return {reinterpret_cast<const char*>(block_->data()), std::min(received_, block_->size())};
}

void MessageBuffer::SetApart(size_t offset, size_t size, BufferPtr apart) {
  if (received_ > offset) std::memcpy(apart->data(), block_->data() + offset, received_ - offset);
  apart_.push_back({offset, offset + size, std::move(apart)});
}

void MessageBuffer::Append(const uint8_t* bytes, size_t size) {
  if (const Apart* apart = current()) {
    const size_t now = std::min(size, apart->end - received_);
    uint8_t* const to = apart->bytes->data() + (received_ - apart->offset);
    if (bytes != to) std::memmove(to, bytes, now);
    received_ += now;
    bytes += now;
    size -= now;
  }
  AppendHere(bytes, size);
}

void MessageBuffer::AppendHere(const uint8_t* bytes, size_t size) {
  if (size == 0) return;
  BufferPtr outgrown;  // `bytes` may lie in it
  if (!block_ || received_ + size > block_->size() || MayGrow(received_ + size)) outgrown = Grow(received_ + size);
  uint8_t* const to = block_->data() + received_;
  if (bytes != to) std::memmove(to, bytes, size);
  received_ += size;
}

Space MessageBuffer::OpenSpace(size_t least, size_t most) {
  if (!block_ || left() < least) return {};
  if (const Apart* apart = current()) {
    const size_t room = apart->end - received_;
    if (room < least) return {};
    return {apart->bytes, apart->bytes->data() + (received_ - apart->offset), std::min(most, room), /*exact=*/true};
  }
  if (MayGrow(received_)) Grow(received_);
  if (block_->size() < received_ + least) return {};
  const size_t room = block_->size() - received_;
  return {block_, block_->data() + received_, std::min(most, room), /*exact=*/false};
}

ReceivedMessage MessageBuffer::Take() {
  if (!block_) return Slice::Copy(nullptr, 0);
  if (block_->size() < size_) Grow(size_);  // the last bytes lie apart
  ReceivedMessage taken(Slice(std::exchange(block_, nullptr), 0, size_));
  for (Apart& apart : apart_) {
    taken.apart.push_back({apart.offset, Slice(std::move(apart.bytes), 0, apart.end - apart.offset)});
  }
  apart_.clear();
  size_ = received_ = 0;
  return taken;
}

}  // namespace pyinfer
