// SPDX-License-Identifier: Apache-2.0
// message_buffer.h - the bytes of a message whose size is known, as they arrive.
//
// They can be read from a socket to where they stay. What is received buys room for more; what is merely announced
// buys none.
#pragma once

#include <cstddef>
#include <cstdint>

#include "memory/buffer.h"

namespace pyinfer {

// Memory to be written to, and what keeps it.
struct Space {
  BufferPtr owner;
  uint8_t* data = nullptr;
  size_t size = 0;
};

class MessageBuffer {
 public:
  // A message of `size` bytes begins. Requires: the one before was taken.
  void Begin(size_t size) { size_ = size; }
  // How many bytes are still to come.
  size_t left() const { return size_ - received_; }

  // The next bytes. They may lie anywhere in the space that was opened, and are not copied where they are at its
  // beginning. Requires: size <= left(); what lies in a space is appended before the space's owner is let go.
  void Append(const uint8_t* bytes, size_t size);
  // Where the next bytes may be written before they are appended, `most` at most, and kBufferPadding bytes behind that
  // which are nobody's. Nothing where fewer than `least` bytes are to come, or received bytes have not bought their
  // room.
  Space OpenSpace(size_t least, size_t most);

  // The message, with kBufferPadding readable bytes behind it. Requires: left() == 0.
  Slice Take();

 private:
  // Received bytes buy this many times their size in addresses. Those that nothing was written to are memory that the
  // pool has kept anyway, or none.
  static constexpr size_t kBought = 64;

  size_t Bought(size_t received) const;
  // Whether there is much more room to be had: taken early, few bytes have to be moved there.
  bool MayGrow(size_t received) const;
  // Makes room; the memory that was too small.
  BufferPtr Grow(size_t received);

  BufferPtr block_;
  size_t size_ = 0;
  size_t received_ = 0;
};

}  // namespace pyinfer
