// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "memory/buffer.h"
#include "memory/output.h"
#include "memory/pool.h"

namespace pyinfer {
namespace {

bool Aligned(const uint8_t* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

// Reads the padding; the address sanitizer would object where it is not ours.
int ReadPadding(const uint8_t* data, size_t size) {
  int sum = 0;
  for (size_t i = 0; i < kBufferPadding; ++i) sum += const_cast<volatile const uint8_t*>(data)[size + i];
  return sum;
}

std::string Text(const Output& output) {
  std::string text;
  for (const Slice& piece : output.pieces()) text += piece.view();
  return text += output.tail();
}

TEST(Buffer, IsAlignedAndPadded) {
  for (const size_t size : {0, 1, 63, 64, 65, 4096, 8192, 8193, 16384, 100000, (64 << 20) + 1}) {
    const BufferPtr buffer = Buffer::Allocate(size);
    CHECK_EQ(buffer->size(), size);
    CHECK(Aligned(buffer->data()));
    std::memset(buffer->data(), 1, size + kBufferPadding);
    CHECK_EQ(ReadPadding(buffer->data(), size), static_cast<int>(kBufferPadding));
  }
}

TEST(Slice, KeepsItsBuffer) {
  Slice part;
  {
    BufferPtr buffer = Buffer::FromString("hello, world");
    const Slice whole(buffer);
    part = whole.Sub(7, 5);
    CHECK(part.data() == buffer->data() + 7);
    CHECK_EQ(buffer.use_count(), 3);
  }
  CHECK_EQ(part.view(), "world");
  CHECK(part.Sub(5, 0).empty());
  CHECK(Slice().empty());
  CHECK(Slice(nullptr).empty());
  CHECK(Slice::Copy(nullptr, 0).empty());
}

TEST(Slice, OfAShortString) {
  // A string that keeps its bytes inside itself moves: the buffer must point at where they are now.
  std::string text = "ab";
  const Slice slice(Buffer::FromString(std::move(text)));
  text = "zz";
  CHECK_EQ(slice.view(), "ab");
}

TEST(GrowingBuffer, Collects) {
  GrowingBuffer buffer;
  std::string expected;
  for (int i = 0; i < 2000; ++i) {
    const std::string piece(static_cast<size_t>(i % 37), static_cast<char>('a' + i % 26));
    if (i % 2 == 0) {
      buffer.Append(piece.data(), piece.size());
    } else if (uint8_t* room = buffer.Prepare(piece.size() + 10)) {
      piece.copy(reinterpret_cast<char*>(room), piece.size());
      buffer.Commit(piece.size());
    }
    expected += piece;
  }
  CHECK_EQ(buffer.size(), expected.size());
  const Slice taken = buffer.Take();
  CHECK_EQ(taken.view(), expected);
  ReadPadding(taken.data(), taken.size());
  CHECK_EQ(buffer.size(), size_t{0});
  CHECK(buffer.Take().empty());
  buffer.Append("again", 5);
  CHECK_EQ(buffer.Take().view(), "again");
}

TEST(GrowingBuffer, AnAnnouncementIsNoAllocation) {
  GrowingBuffer buffer;
  buffer.Expect(size_t{1} << 40);
  buffer.Append("abc", 3);
  CHECK_EQ(buffer.Take().view(), "abc");
}

TEST(GrowingBuffer, RoomForNothing) {
  GrowingBuffer buffer;
  buffer.Prepare(0);
  buffer.Commit(0);
  CHECK(buffer.Take().empty());
}

TEST(GrowingBuffer, Moves) {
  GrowingBuffer a;
  a.Append("one", 3);
  GrowingBuffer b(std::move(a));
  CHECK_EQ(b.size(), size_t{3});
  a = GrowingBuffer();
  a.Append("two", 3);
  b = std::move(a);
  CHECK_EQ(b.Take().view(), "two");
}

TEST(Output, CopiesSmallAndSharesLarge) {
  Output output;
  CHECK(output.empty());
  const Slice small(Buffer::FromString(std::string(Output::kShareFrom - 1, 's')));
  const Slice large(Buffer::FromString(std::string(Output::kShareFrom, 'l')));
  output.Append("head");
  output.Append(small);
  CHECK(output.pieces().empty());
  output.Append(large);
  output.Append(large);
  output.Append("tail");
  CHECK_EQ(output.pieces().size(), size_t{3});
  CHECK(output.pieces()[1].data() == large.data() && output.pieces()[2].data() == large.data());
  CHECK_EQ(output.size(), size_t{8} + small.size() + 2 * large.size());
  CHECK_EQ(Text(output),
           "head" + std::string(small.view()) + std::string(large.view()) + std::string(large.view()) + "tail");
}

TEST(Pool, Reuses) {
  Pool pool(size_t{1} << 20);
  const uint8_t* block = nullptr;
  {
    const BufferPtr first = pool.Allocate(20000);
    block = first->data();
    CHECK(Aligned(block));
    CHECK_EQ(pool.kept_bytes(), size_t{0});
  }
  CHECK_EQ(pool.kept_bytes(), size_t{32768});
  const BufferPtr second = pool.Allocate(30000);
  CHECK(second->data() == block);
  CHECK_EQ(second->size(), size_t{30000});
  ReadPadding(second->data(), second->size());
  CHECK_EQ(pool.kept_bytes(), size_t{0});
}

TEST(Pool, KeepsNeitherSmallNorHugeBlocks) {
  Pool pool(size_t{1} << 30);
  for (const size_t size : {size_t{0}, size_t{1}, size_t{8192}, (size_t{64} << 20) + 1}) pool.Allocate(size);
  CHECK_EQ(pool.kept_bytes(), size_t{0});
  pool.Allocate(size_t{64} << 20);
  CHECK_EQ(pool.kept_bytes(), size_t{64} << 20);
}

TEST(Pool, IsBounded) {
  Pool pool(100000);
  std::vector<BufferPtr> buffers;
  for (int i = 0; i < 20; ++i) buffers.push_back(pool.Allocate(16384));
  std::set<const uint8_t*> distinct;
  for (const BufferPtr& buffer : buffers) distinct.insert(buffer->data());
  CHECK_EQ(distinct.size(), size_t{20});
  buffers.clear();
  CHECK_EQ(pool.kept_bytes(), size_t{6 * 16384});
}

TEST(Pool, ServesManyThreads) {
  Pool pool(size_t{1} << 20);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&pool, t] {
      for (size_t i = 0; i < 500; ++i) {
        const size_t size = 10000 + (i * 7919) % 60000;
        const BufferPtr buffer = pool.Allocate(size);
        std::memset(buffer->data(), t, size);
        for (size_t at = 0; at < size; at += 4096) {
          if (buffer->data()[at] != t) std::abort();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(pool.kept_bytes() <= size_t{1} << 20);
}

}  // namespace
}  // namespace pyinfer
