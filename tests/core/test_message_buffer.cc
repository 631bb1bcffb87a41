// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <string>

#include "check.h"
#include "memory/message_buffer.h"

namespace pyinfer {
namespace {

constexpr size_t kBought = 64;  // of what was received

std::string Pattern(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 2654435761u >> 13);
  return bytes;
}

const uint8_t* Bytes(const std::string& text) { return reinterpret_cast<const uint8_t*>(text.data()); }

TEST(MessageBuffer, TakesPiecesOfAnySize) {
  const std::string whole = Pattern(300'000);
  for (const size_t step : {1, 7, 4096, 16384, 299'999, 300'000}) {
    MessageBuffer buffer;
    for (int round = 0; round < 2; ++round) {
      buffer.Begin(whole.size());
      for (size_t at = 0; at < whole.size(); at += step) {
        buffer.Append(Bytes(whole) + at, std::min(step, whole.size() - at));
      }
      CHECK_EQ(buffer.left(), size_t{0});
      CHECK(buffer.Take().view() == whole);
    }
  }
}

TEST(MessageBuffer, NothingIsAMessage) {
  MessageBuffer buffer;
  buffer.Begin(0);
  CHECK_EQ(buffer.left(), size_t{0});
  CHECK(buffer.Take().empty());
}

TEST(MessageBuffer, AnAnnouncementBuysNothing) {
  MessageBuffer buffer;
  buffer.Begin(size_t{1} << 40);  // more than there is
  CHECK(buffer.OpenSpace(1, 1000).data == nullptr);
  buffer.Append(Bytes("abc"), 3);
  CHECK(buffer.OpenSpace(kBought * 3, size_t{1} << 30).data == nullptr);
  const Space space = buffer.OpenSpace(1, size_t{1} << 30);
  CHECK_EQ(space.size, kBought * 3 - 3);
  CHECK(space.owner->size() <= kBought * 3);
}

TEST(MessageBuffer, SpaceIsFilledInPlace) {
  const std::string whole = Pattern(100'000);
  MessageBuffer buffer;
  buffer.Begin(whole.size());
  buffer.Append(Bytes(whole), 10);
  size_t at = 10;
  while (at < whole.size()) {
    const Space space = buffer.OpenSpace(1, 3000);
    CHECK(space.size > 0 && space.size <= std::min<size_t>(3000, kBought * at));
    // More than was asked for: what comes behind is no part of the message.
    const std::string more = whole.substr(at, space.size) + std::string(kBufferPadding, '!');
    std::memcpy(space.data, more.data(), more.size());
    buffer.Append(space.data, space.size);
    at += space.size;
  }
  CHECK(buffer.OpenSpace(1, 1).data == nullptr);
  CHECK(buffer.Take().view() == whole);
}

// A first read that buys a little less than the whole message does not have all of it moved in the end.
TEST(MessageBuffer, RoomIsTakenEarly) {
  constexpr size_t kSize = 16 << 20, kFirst = (256 << 10) - 100;
  const std::string piece(kFirst, 'p');
  MessageBuffer buffer;
  buffer.Begin(kSize);
  buffer.Append(Bytes(piece), kFirst);
  CHECK_EQ(buffer.OpenSpace(1, kSize).owner->size(), kBought * kFirst);
  buffer.Append(Bytes(piece), kFirst);
  const Space space = buffer.OpenSpace(1, kSize);
  CHECK_EQ(space.owner->size(), kSize);
  CHECK_EQ(space.size, kSize - 2 * kFirst);
}

// Bytes of a space that others come before are moved to where they belong, be there room or not.
TEST(MessageBuffer, BytesFurtherBackAreMoved) {
  const std::string whole = Pattern(200'000);
  for (const size_t first : {size_t{1000}, size_t{3000}}) {  // those buy 64,000 and 192,000
    for (const size_t gap : {size_t{0}, size_t{9}, size_t{64}}) {
      MessageBuffer buffer;
      buffer.Begin(whole.size());
      buffer.Append(Bytes(whole), first);
      const Space space = buffer.OpenSpace(1000, whole.size());
      const size_t size = space.size + kBufferPadding - gap;
      std::memcpy(space.data + gap, whole.data() + first, size);
      buffer.Append(space.data + gap, size);
      buffer.Append(Bytes(whole) + first + size, whole.size() - first - size);
      CHECK(buffer.Take().view() == whole);
    }
  }
}

}  // namespace
}  // namespace pyinfer
