// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

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
      CHECK(buffer.Take().bytes.view() == whole);
    }
  }
}

TEST(MessageBuffer, NothingIsAMessage) {
  MessageBuffer buffer;
  buffer.Begin(0);
  CHECK_EQ(buffer.left(), size_t{0});
  CHECK(buffer.Take().bytes.empty());
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
  CHECK(buffer.Take().bytes.view() == whole);
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

// Parts of a message lie apart, wherever they begin and end, and however it comes.
TEST(MessageBuffer, PartsLieApart) {
  const std::string whole = Pattern(300'000);
  struct Part {
    size_t offset, size, known;  // `known`: how much has come when it is said where the part lies
  };
  const std::vector<std::vector<Part>> cases = {
      {{0, 300'000, 1}},
      {{5, 100'000, 5}, {100'005, 100'000, 100'005}, {200'010, 99'990, 250'000}},
      {{7000, 290'000, 7100}},
      {{100, 200, 299}},
  };
  for (const std::vector<Part>& parts : cases) {
    for (const size_t step : {size_t{1}, size_t{997}, size_t{50'000}}) {
      MessageBuffer buffer;
      buffer.Begin(whole.size());
      size_t at = 0;
      size_t next = 0;
      while (at < whole.size()) {
        const size_t until = next < parts.size() ? std::max(parts[next].known, at) : whole.size();
        const size_t size = std::min({step, whole.size() - at, std::max<size_t>(until - at, 1)});
        buffer.Append(Bytes(whole) + at, size);
        at += size;
        if (next < parts.size() && at >= parts[next].known) {
          buffer.SetApart(parts[next].offset, parts[next].size, Buffer::Allocate(parts[next].size));
          ++next;
        }
      }
      ReceivedMessage message = buffer.Take();
      CHECK_EQ(message.apart.size(), parts.size());
      CHECK_EQ(message.bytes.size(), whole.size());
      std::string found;
      for (size_t i = 0; i < parts.size(); ++i) {
        CHECK_EQ(message.apart[i].offset, parts[i].offset);
        CHECK_EQ(message.apart[i].bytes.size(), parts[i].size);
        found += message.bytes.view().substr(found.size(), parts[i].offset - found.size());
        found += message.apart[i].bytes.view();
      }
      found += Slice::Copy(message.bytes.data() + found.size(), whole.size() - found.size() + kBufferPadding).view();
      CHECK(found.substr(0, whole.size()) == whole);
      buffer.Begin(10);
      buffer.Append(Bytes(whole), 10);
      CHECK(buffer.Take().apart.empty());
    }
  }
}

// A space that lies apart ends with its part.
TEST(MessageBuffer, SpaceApart) {
  const std::string whole = Pattern(200'000);
  MessageBuffer buffer;
  buffer.Begin(whole.size());
  buffer.Append(Bytes(whole), 4000);
  const BufferPtr part = Buffer::Allocate(150'000);
  buffer.SetApart(1000, 150'000, part);
  Space space = buffer.OpenSpace(1, 100'000);
  CHECK(space.exact && space.data == part->data() + 3000 && space.owner == part);
  CHECK_EQ(space.size, size_t{100'000});
  std::memcpy(space.data, whole.data() + 4000, space.size);
  buffer.Append(space.data, space.size);
  CHECK(buffer.OpenSpace(50'000, 100'000).data == nullptr);
  space = buffer.OpenSpace(1, 100'000);
  CHECK_EQ(space.size, size_t{47'000});
  std::memcpy(space.data, whole.data() + 104'000, space.size);
  buffer.Append(space.data, space.size);
  space = buffer.OpenSpace(1, 100'000);
  CHECK(!space.exact && space.owner != part);
  buffer.Append(Bytes(whole) + 151'000, 49'000);
  const ReceivedMessage message = buffer.Take();
  CHECK(message.apart.at(0).bytes.view() == whole.substr(1000, 150'000));
  CHECK(message.bytes.view().substr(151'000) == whole.substr(151'000));
  CHECK(message.bytes.view().substr(0, 1000) == whole.substr(0, 1000));
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
      CHECK(buffer.Take().bytes.view() == whole);
    }
  }
}

}  // namespace
}  // namespace pyinfer
