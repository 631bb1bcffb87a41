// SPDX-License-Identifier: Apache-2.0
// message_buffer.h - the bytes of a message whose size is known, as they arrive.
//
// They can be read from a socket to where they stay, and parts of them to memory that somebody else has made. What is
// received buys room for more; what is merely announced buys none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "memory/buffer.h"

namespace pyinfer {

// Memory to be written to, and what keeps it.
struct Space {
  BufferPtr owner;
  uint8_t* data = nullptr;
  size_t size = 0;
  bool exact = false;  // what lies behind it is not to be written to
};

// A part of a message that lies apart.
struct ApartBytes {
  size_t offset = 0;
  Slice bytes;
};

// A message that was received. In the place of what lies apart `bytes` has what is nobody's, and must not be read.
struct ReceivedMessage {
  ReceivedMessage(Slice whole) : bytes(std::move(whole)) {}  // NOLINT: most have nothing apart

  Slice bytes;
  std::vector<ApartBytes> apart;  // ascending
};

class MessageBuffer {
 public:
  // A message of `size` bytes begins. Requires: the one before was taken.
  void Begin(size_t size) { size_ = size; }
  // How many bytes are still to come.
  size_t left() const { return size_ - received_; }
  // What has come, as ReceivedMessage::bytes has it: without what lies apart.
  std::string_view begun() const;
  size_t size() const { return size_; }

  // The next bytes. They may lie anywhere in the space that was opened, and are not copied where they are at its
  // beginning. Requires: size <= left(); what lies in a space is appended before the space's owner is let go.
  void Append(const uint8_t* bytes, size_t size);
  // Where the next bytes may be written before they are appended, `most` at most, and kBufferPadding bytes behind that
  // which are nobody's, unless it is `exact`. Nothing where fewer than `least` bytes are to come there, or received
  // bytes have not bought their room.
  Space OpenSpace(size_t least, size_t most);
  // How large a message may be that the bytes received so far have bought the room for.
  size_t bought() const { return Bought(received_); }
  // The `size` bytes from `offset` on lie in `apart`, from its beginning: those that have come are moved there.
  // Requires: some are still to come, the one before them has come, and none of them lies apart.
  void SetApart(size_t offset, size_t size, BufferPtr apart);

  // The message, with kBufferPadding readable bytes behind it. Requires: left() == 0.
  ReceivedMessage Take();

 private:
  // Received bytes buy this many times their size in addresses. Those that nothing was written to are memory that the
  // pool has kept anyway, or none.
  static constexpr size_t kBought = 64;

  struct Apart {
    size_t offset;
    size_t end;
    BufferPtr bytes;
  };

  // Where the next byte lies apart; null where it does not.
  const Apart* current() const;
  void AppendHere(const uint8_t* bytes, size_t size);
  size_t Bought(size_t received) const;
  // Whether there is much more room to be had: taken early, few bytes have to be moved there.
  bool MayGrow(size_t received) const;
  // Makes room; the memory that was too small.
  BufferPtr Grow(size_t received);

  BufferPtr block_;
  std::vector<Apart> apart_;  // ascending
  size_t size_ = 0;
  size_t received_ = 0;
};

}  // namespace pyinfer
