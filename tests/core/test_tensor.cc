// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "base/size.h"
#include "check.h"
#include "infer/tensor.h"
#include "wire/utf8.h"

namespace pyinfer {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kMin = std::numeric_limits<int64_t>::min();

std::string Element(std::string_view bytes, uint32_t length) {
  std::string element(reinterpret_cast<const char*>(&length), sizeof(length));
  return element += bytes;
}
std::string Element(std::string_view bytes) { return Element(bytes, static_cast<uint32_t>(bytes.size())); }

TEST(DType, TableIsComplete) {
  const std::array<std::pair<const char*, size_t>, 14> types = {{{"BOOL", 1},
                                                                 {"UINT8", 1},
                                                                 {"UINT16", 2},
                                                                 {"UINT32", 4},
                                                                 {"UINT64", 8},
                                                                 {"INT8", 1},
                                                                 {"INT16", 2},
                                                                 {"INT32", 4},
                                                                 {"INT64", 8},
                                                                 {"FP16", 2},
                                                                 {"FP32", 4},
                                                                 {"FP64", 8},
                                                                 {"BYTES", 0},
                                                                 {"BF16", 2}}};
  for (const auto& [name, size] : types) {
    const DType dtype = ParseDType(name);
    CHECK(dtype != DType::kInvalid);
    CHECK_EQ(DTypeName(dtype), std::string_view(name));
    CHECK_EQ(DTypeSize(dtype), size);
  }
}

TEST(DType, UnknownNames) {
  for (const char* name : {"", "fp32", "FP32 ", "FP8", "STRING", "<invalid>", "TYPE_FP32"}) {
    CHECK(ParseDType(name) == DType::kInvalid);
  }
  CHECK_EQ(DTypeSize(DType::kInvalid), size_t{0});
  CHECK_EQ(DTypeName(DType::kInvalid), std::string_view("<invalid>"));
}

TEST(Size, ChecksOverflow) {
  constexpr uint64_t most = std::numeric_limits<uint64_t>::max();
  CHECK(CheckedMultiply(most, 1) == most);
  CHECK(CheckedMultiply(uint64_t{1} << 32, (uint64_t{1} << 32) - 1) == most - ((uint64_t{1} << 32) - 1));
  CHECK(!CheckedMultiply(uint64_t{1} << 32, uint64_t{1} << 32));
}

TEST(Tensor, ElementCount) {
  CHECK(ElementCount({}) == 1u);
  CHECK(ElementCount({3, 4}) == 12u);
  CHECK(ElementCount({3, 0, 4}) == 0u);
  CHECK(ElementCount({kMax / 8}) == static_cast<uint64_t>(kMax / 8));
  CHECK(!ElementCount({kMax / 8 + 1}));
  CHECK(!ElementCount({-1}));
  CHECK(!ElementCount({kMin}));
  CHECK(!ElementCount({0, -1}));
  CHECK(!ElementCount({kMax, 3}));
  CHECK(!ElementCount({int64_t{1} << 32, int64_t{1} << 32}));
  // 2^64 + 4 = 4 * (2^62 + 1)
  CHECK(!ElementCount({4, (int64_t{1} << 62) + 1}));
}

TEST(Tensor, AZeroDoesNotExcuseAnOverflow) {
  CHECK(!ElementCount({0, int64_t{1} << 62, int64_t{1} << 62}));
  CHECK(!ElementCount({int64_t{1} << 62, int64_t{1} << 62, 0}));
  CHECK(!ElementCount({0, int64_t{1} << 62}));
  CHECK(ElementCount({0, int64_t{1} << 59}) == 0u);
}

TEST(Tensor, ByteSize) {
  CHECK(ByteSize(DType::kFp32, {2, 3}) == 24u);
  CHECK(ByteSize(DType::kBf16, {}) == 2u);
  CHECK(ByteSize(DType::kFp64, {kMax / 8}) == static_cast<uint64_t>(kMax - 7));
  CHECK(!ByteSize(DType::kBool, {int64_t{1} << 60}));
  CHECK(!ByteSize(DType::kBytes, {1}));
  CHECK(!ByteSize(DType::kInvalid, {1}));
}

TEST(Tensor, ShapeText) {
  CHECK_EQ(ShapeText({}), "[]");
  CHECK_EQ(ShapeText({2, -1, 16}), "[2,-1,16]");
}

TEST(Bytes, WalksElements) {
  const std::string data = Element("ab") + Element("") + Element(std::string_view("a\0b", 3));
  CHECK_EQ(WalkBytes(data, 0, "x").value(), size_t{0});
  CHECK_EQ(WalkBytes(data, 1, "x").value(), size_t{6});
  CHECK_EQ(WalkBytes(data, 2, "x").value(), size_t{10});
  CHECK_EQ(WalkBytes(data, 3, "x").value(), data.size());
  CHECK(CheckBytes(data, 3, "x").ok());
  std::string empty;
  for (int i = 0; i < 1'000'000; ++i) empty.append(4, '\0');
  CHECK(CheckBytes(empty, 1'000'000, "x").ok());
}

TEST(Bytes, RefusesWhatDoesNotFit) {
  const auto refused = [](const std::string& data, uint64_t count, std::string_view text) {
    const Status status = CheckBytes(data, count, "inference input 'T'");
    CHECK(status.code() == Code::kInvalidArg);
    CHECK_EQ(status.message(), text);
  };
  refused(Element("abc", 4), 1,
          "incomplete string data for inference input 'T', expecting string of length 4 but only 3 bytes available");
  refused(Element("abc", 0xFFFFFFFFu), 1,
          "incomplete string data for inference input 'T', expecting string of length 4294967295 but only 3 bytes "
          "available");
  refused(Element("a") + "\x01\x02\x03", 2,
          "incomplete string length indicator for inference input 'T', expecting 4 bytes but only 3 bytes available. "
          "Please make sure the string length indicator is in one buffer.");
  refused(Element("a") + Element("b"), 3, "expected 3 string elements for inference input 'T', got 2");
  refused(Element("a") + Element("b"), 1,
          "unexpected number of string elements 2 for inference input 'T', expecting 1");
  refused("", uint64_t{1} << 62, "expected 4611686018427387904 string elements for inference input 'T', got 0");
  refused("x", 0,
          "incomplete string length indicator for inference input 'T', expecting 4 bytes but only 1 bytes available. "
          "Please make sure the string length indicator is in one buffer.");
}

TEST(Bytes, EveryCutIsRefused) {
  const std::string data = Element("hello") + Element("") + Element("world!");
  for (size_t size = 0; size < data.size(); ++size) CHECK(!CheckBytes(data.substr(0, size), 3, "x").ok());
}

TEST(Utf8, Validates) {
  const std::string filler(100, 'x');
  for (const std::string& before : {std::string(), filler}) {
    CHECK(ValidUtf8(before + "plain"));
    CHECK(ValidUtf8(before + "\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"));
    CHECK(ValidUtf8(before + std::string(1, '\0')));
    for (const char* bad : {"\x80", "\xC3", "\xC0\xAF", "\xE2\x82", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xFF"}) {
      CHECK(!ValidUtf8(before + bad));
      CHECK(!ValidUtf8(bad + before + "x"));
    }
  }
  CHECK(ValidUtf8(""));
}

}  // namespace
}  // namespace pyinfer
