// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "memory/recycler.h"
#include "wire/http2_memory.h"

namespace pyinfer {
namespace {

constexpr bool kSanitized = sizeof(PYINFER_SANITIZER) > 1;

TEST(Recycler, BlocksOfAllSizesAreWhole) {
  std::vector<std::pair<uint8_t*, size_t>> blocks;
  for (size_t round = 0; round < 3; ++round) {
    for (size_t size = 0; size <= Recycler::kLargest + 65; ++size) {
      auto* const block = static_cast<uint8_t*>(Recycler::Allocate(size));
      CHECK_EQ(reinterpret_cast<uintptr_t>(block) % 16, uintptr_t{0});
      std::memset(block, static_cast<int>(size % 251), size);
      blocks.emplace_back(block, size);
    }
    for (const auto& [block, size] : blocks) {
      for (size_t i = 0; i < size; ++i) CHECK_EQ(size_t{block[i]}, size % 251);
      Recycler::Free(block, size);
    }
    blocks.clear();
  }
  Recycler::Free(nullptr, 10);
}

TEST(Recycler, UsesBlocksAgain) {
  if (kSanitized) return;
  // More than malloc keeps at hand.
  std::vector<void*> blocks(100);
  for (void*& block : blocks) block = Recycler::Allocate(440);
  const std::set<void*> seen(blocks.begin(), blocks.end());
  CHECK_EQ(seen.size(), blocks.size());
  for (void* block : blocks) Recycler::Free(block, 440);
  for (void*& block : blocks) block = Recycler::Allocate(400);
  CHECK(std::set<void*>(blocks.begin(), blocks.end()) == seen);
  for (void* block : blocks) Recycler::Free(block, 400);
}

TEST(Recycler, AnyThreadMayFree) {
  std::vector<void*> blocks(5000);
  for (void*& block : blocks) block = Recycler::Allocate(200);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&blocks, t] {
      for (size_t i = t; i < blocks.size(); i += 4) {
        Recycler::Free(blocks[i], 200);
        if (i % 3 == 0) Recycler::Free(Recycler::Allocate(i % 2000), i % 2000);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  // What a thread kept was freed with it; a leak checker would tell.
}

TEST(Recycler, Containers) {
  RecyclingMap<int, std::string> map;
  for (int i = 0; i < 1000; ++i) map[i] = std::to_string(i);
  for (int i = 0; i < 1000; i += 2) map.erase(i);
  CHECK_EQ(map.size(), size_t{500});
  CHECK_EQ(map.at(501), "501");
  const auto shared = std::allocate_shared<std::string>(RecyclingAllocator<std::string>(), "text");
  CHECK_EQ(*shared, "text");
}

TEST(Recycler, ServesHttp2) {
  const nghttp2_mem memory = RecyclingMemory();
  auto* bytes = static_cast<uint8_t*>(memory.calloc(10, 3, nullptr));
  for (int i = 0; i < 30; ++i) CHECK_EQ(int{bytes[i]}, 0);
  std::memset(bytes, 7, 30);
  for (const size_t size : {31, 500, 5000, 20, 0}) {
    bytes = static_cast<uint8_t*>(memory.realloc(bytes, size, nullptr));
    for (size_t i = 0; i < std::min<size_t>(size, 20); ++i) CHECK_EQ(int{bytes[i]}, 7);
  }
  memory.free(bytes, nullptr);
  memory.free(nullptr, nullptr);
  memory.free(memory.realloc(nullptr, 5, nullptr), nullptr);
  CHECK(memory.calloc(SIZE_MAX / 2, 3, nullptr) == nullptr);
  CHECK(memory.malloc(SIZE_MAX - 8, nullptr) == nullptr);
}

}  // namespace
}  // namespace pyinfer
