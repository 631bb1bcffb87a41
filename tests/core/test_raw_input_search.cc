// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "proto.h"
#include "protocol/raw_input_search.h"

namespace pyinfer {
namespace {

using testing::Field;
using testing::InputField;
using testing::Number;

constexpr size_t kLeast = 1000;

struct Step {
  size_t received, offset, size;
};

// What is found in a message that comes in steps.
struct Searched {
  Searched(const std::string& message, size_t step) {
    buffer.Begin(message.size());
    for (size_t at = 0; at < message.size(); at += step) {
      const size_t size = std::min(step, message.size() - at);
      buffer.Append(reinterpret_cast<const uint8_t*>(message.data()) + at, size);
      while (const auto found = search.Next(buffer, kLeast)) steps.push_back({at + size, found->offset, found->size});
    }
  }

  MessageBuffer buffer;
  RawInputSearch search;
  std::vector<Step> steps;
};

TEST(RawInputSearch, FindsLargeTensorsOnce) {
  const std::string head = Field(1, "model") + Field(2, "3") + Field(3, "id") + Number(99, 7) +
                           InputField("A", "UINT8", {5000}) + InputField("B", "UINT8", {3}) + Field(7, "abc");
  const std::string large(5000, 'x');
  const std::string message = head + Field(7, large) + Field(7, std::string(999, 'y')) + Field(7, large);
  for (const size_t step : {size_t{1}, size_t{7}, size_t{64}, size_t{700}}) {
    const Searched searched(message, step);
    CHECK_EQ(searched.search.model(), "model");
    CHECK_EQ(searched.search.version(), int64_t{3});
    CHECK_EQ(searched.steps.size(), size_t{2});
    const size_t first = head.size() + 3;  // a tag and a length of two bytes
    CHECK_EQ(searched.steps[0].offset, first);
    CHECK_EQ(searched.steps[1].offset, message.size() - large.size());
    for (const Step& found : searched.steps) {
      CHECK_EQ(found.size, large.size());
      CHECK(found.received >= found.offset && found.received < found.offset + found.size);
    }
    CHECK(searched.steps[0].received < std::max(first, large.size() / 64 + 1) + step);
  }
  CHECK(Searched(message, message.size()).steps.empty());  // all of them have come
}

TEST(RawInputSearch, NoVersionIsTheLatest) {
  const Searched searched(Field(1, "m") + Field(2, "") + Field(7, std::string(2000, 'x')), 100);
  CHECK_EQ(searched.search.version(), int64_t{-1});
  CHECK_EQ(searched.steps.size(), size_t{1});
}

// An announcement finds nothing before enough has come for what it announces.
TEST(RawInputSearch, RoomIsBoughtByWhatHasCome) {
  const Searched searched(Field(1, "m") + Field(7, std::string(1'000'000, 'x')), 100);
  CHECK_EQ(searched.steps.size(), size_t{1});
  CHECK(searched.steps[0].received >= 1'000'000 / 64);
  CHECK(searched.steps[0].received < 1'000'000 / 64 + 200);
}

// Whoever reads the message says what is wrong with it; here nothing is found in it.
TEST(RawInputSearch, NonsenseIsNotSearched) {
  const std::string large = Field(7, std::string(5000, 'x'));
  const std::string longer = std::string("\x3a\xff\xff\x03") + std::string(5000, 'x');  // than the message
  const std::vector<std::string> messages = {
      std::string("\x0b") + large,      // a group
      std::string("\x0f") + large,      // no wire type
      std::string(11, '\xff') + large,  // a number that does not end
      Field(2, "one") + large,          // no version
      Field(2, "99999999999999999999") + large,
      longer,
      std::string("\x3a") + std::string(9, '\xff') + "\x01" + std::string(5000, 'x'),
      "",
  };
  for (const std::string& message : messages) {
    for (const size_t step : {size_t{1}, size_t{1000}}) CHECK(Searched(message, step).steps.empty());
  }
}

TEST(RawInputSearch, NothingBreaksIt) {
  std::mt19937 random(3);
  const std::string good = Field(1, "m") + InputField("A", "UINT8", {2000}) + Field(7, std::string(2000, 'x'));
  for (int round = 0; round < 2000; ++round) {
    std::string message = good + good;
    for (int i = 0; i < 3; ++i) message[random() % message.size()] = static_cast<char>(random());
    const Searched searched(message, 1 + random() % 900);
    for (const Step& found : searched.steps) {
      CHECK(found.size >= kLeast && found.offset + found.size <= message.size());
      CHECK(found.received >= found.offset && found.received < found.offset + found.size);
    }
  }
}

}  // namespace
}  // namespace pyinfer
