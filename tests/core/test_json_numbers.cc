// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "wire/json_numbers.h"

namespace pyinfer {
namespace {

template <typename T>
std::string Text(T value) {
  std::string out;
  AppendJsonNumbers<T>(out, &value, 1);
  return out;
}

// The same text by the standard library.
template <typename T>
std::string Reference(T value) {
  char text[400];
  std::string out(text, std::to_chars(text, text + sizeof(text), value).ptr);
  return out.find_first_of(".e") == std::string::npos ? out + ".0" : out;
}

template <typename T, typename Bits>
T FromBits(Bits bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

// Both signs of `value` and of its neighbours.
template <typename T>
void CheckAround(T value) {
  for (const T near : {value, std::nextafter(value, T{0}), std::nextafter(value, std::numeric_limits<T>::max())}) {
    for (const T number : {near, -near}) {
      if (std::isfinite(number)) CHECK_EQ(Text(number), Reference(number));
    }
  }
}

TEST(JsonNumbers, Integers) {
  CHECK_EQ(Text(std::numeric_limits<int64_t>::min()), "-9223372036854775808");
  CHECK_EQ(Text(std::numeric_limits<uint64_t>::max()), "18446744073709551615");
  CHECK_EQ(Text(int8_t{-128}), "-128");
  CHECK_EQ(Text(uint8_t{65}), "65");
  std::string one;
  AppendJsonNumber(one, int64_t{-7});
  AppendJsonNumber(one, uint64_t{8});
  AppendJsonNumber(one, 0.5);
  CHECK_EQ(one, "-780.5");
}

TEST(JsonNumbers, Floats) {
  CHECK_EQ(Text(1.0F), "1.0");
  CHECK_EQ(Text(0.1F), "0.1");
  CHECK_EQ(Text(0.1), "0.1");
  CHECK_EQ(Text(-0.0), "-0.0");
  CHECK_EQ(Text(-0.0F), "-0.0");
  CHECK_EQ(Text(100.0F), "100.0");
  CHECK_EQ(Text(-12345.678F), "-12345.678");
  CHECK_EQ(Text(16777216.0F), "16777216.0");
  CHECK_EQ(Text(1e30), "1e+30");
  CHECK_EQ(Text(1.17549435e-38F), "1.1754944e-38");
  CHECK_EQ(Text(1e-45F), "1e-45");
  CHECK_EQ(Text(3.4028235e38F), "3.4028235e+38");
  CHECK_EQ(Text(5e-324), "5e-324");
  CHECK_EQ(Text(-1.7976931348623157e308), "-1.7976931348623157e+308");
  CHECK_EQ(Text(std::numeric_limits<double>::quiet_NaN()), "NaN");
  CHECK_EQ(Text(-std::numeric_limits<float>::quiet_NaN()), "NaN");
  CHECK_EQ(Text(std::numeric_limits<float>::infinity()), "Infinity");
  CHECK_EQ(Text(-std::numeric_limits<double>::infinity()), "-Infinity");
}

TEST(JsonNumbers, FloatsAreTheShortestTextThatReadsBack) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 500000; ++i) {
    const auto any = FromBits<float>(static_cast<uint32_t>(random()));
    if (std::isfinite(any)) CHECK_EQ(Text(any), Reference(any));
    const auto wide = FromBits<double>(uint64_t{random()});
    if (std::isfinite(wide)) CHECK_EQ(Text(wide), Reference(wide));
    // Numbers as people have them: some decimals, and integers.
    const double scale = std::pow(10.0, static_cast<double>(random() % 19) - 6);
    const auto usual = static_cast<double>(static_cast<int64_t>(random() % 2000001) - 1000000) / scale;
    CHECK_EQ(Text(usual), Reference(usual));
    CHECK_EQ(Text(static_cast<float>(usual)), Reference(static_cast<float>(usual)));
    const auto exact = static_cast<double>(random() >> (random() % 64));
    CHECK_EQ(Text(exact), Reference(exact));
    CHECK_EQ(Text(static_cast<float>(exact)), Reference(static_cast<float>(exact)));
  }
  for (int exponent = -1074; exponent < 1024; ++exponent) {
    CheckAround(std::ldexp(1.0, exponent));
    if (exponent >= -149 && exponent < 128) CheckAround(std::ldexp(1.0F, exponent));
  }
  for (int exponent = -323; exponent <= 308; ++exponent) {
    const std::string power = "1e" + std::to_string(exponent);
    CheckAround(std::strtod(power.c_str(), nullptr));
    if (exponent >= -44 && exponent <= 38) CheckAround(std::strtof(power.c_str(), nullptr));
  }
}

TEST(JsonNumbers, ArraysOfAnySizeAndAddress) {
  std::mt19937_64 random(2);
  std::normal_distribution<float> normal;
  for (const size_t count : {size_t{0}, size_t{1}, size_t{2}, size_t{400}, size_t{5000}}) {
    std::vector<float> values(count);
    for (float& value : values) value = normal(random) * (random() % 9 == 0 ? 1e-30F : 1.0F);
    std::string wanted = "[";
    for (const float value : values) wanted += (wanted.size() > 1 ? "," : "") + Reference(value);
    std::vector<char> bytes(count * sizeof(float) + 1);
    if (count != 0) std::memcpy(bytes.data() + 1, values.data(), count * sizeof(float));
    std::string out = "[";
    AppendJsonNumbers<float>(out, bytes.data() + 1, count);
    CHECK_EQ(out, wanted);
  }
}

}  // namespace
}  // namespace pyinfer
