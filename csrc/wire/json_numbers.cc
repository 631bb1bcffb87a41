// SPDX-License-Identifier: Apache-2.0
#include "wire/json_numbers.h"

#include <dragonbox/dragonbox.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>

namespace pyinfer {
namespace {

// Writing a number touches at most this many bytes, some of them behind its end.
constexpr size_t kRoom = 64;
// Arrays are written into a chunk of this size, and chunk by chunk into the string.
constexpr size_t kChunk = 4096;

// 10^0 to 10^17.
constexpr std::array<uint64_t, 18> kPowersOfTen = [] {
  std::array<uint64_t, 18> powers{};
  uint64_t power = 1;
  for (uint64_t& entry : powers) {
    entry = power;
    power *= 10;
  }
  return powers;
}();

// How many digits `value` has. Requires: 0 < value < 10^17.
int DigitCount(uint64_t value) {
  const auto bits = static_cast<unsigned>(64 - __builtin_clzll(value));
  const unsigned count = (bits * 1233) >> 12;  // bits times the logarithm of 2: right, or one too few
  return static_cast<int>(count) + (value >= kPowersOfTen[count] ? 1 : 0);
}

// The eight digits of `value`, the first in the lowest byte; as numbers, not as characters.
uint64_t EightDigits(uint32_t value) {
  // Two halves of four digits are divided at once, then four quarters of two.
  const uint64_t halves = value / 10000 | uint64_t{value % 10000} << 32;
  const uint64_t hundreds = ((halves * 10486) >> 20) & 0x0000007F0000007F;
  const uint64_t quarters = hundreds | (halves - hundreds * 100) << 16;
  const uint64_t tens = ((quarters * 103) >> 10) & 0x000F000F000F000F;
  return tens | (quarters - tens * 10) << 8;
}

// A number other than zero: its significant digits, zeros behind them, and where its point is. All in registers: digits
// that are read where they were just written, at another offset, have to be waited for.
template <typename T>
struct Decimal {
  static constexpr int kDigits = std::numeric_limits<T>::max_digits10;
  // A character for each digit after the first, the next one in the lowest byte.
  using Tail = std::conditional_t<kDigits == 9, uint64_t, unsigned __int128>;
  static_assert(sizeof(Tail) == kDigits - 1);

  explicit Decimal(T positive) {
    namespace policy = jkj::dragonbox::policy;
    const auto decimal = jkj::dragonbox::to_decimal(positive, policy::sign::ignore, policy::trailing_zero::ignore);
    const int missing = kDigits - DigitCount(decimal.significand);
    exponent = decimal.exponent + kDigits - 1 - missing;
    uint64_t rest = decimal.significand * kPowersOfTen[static_cast<size_t>(missing)];
    if constexpr (kDigits == 17) {
      const uint64_t last = EightDigits(static_cast<uint32_t>(rest % kPowersOfTen[8]));
      rest /= kPowersOfTen[8];
      tail = Tail{last} << 64;
      count = last == 0 ? 0 : 17 - (__builtin_clzll(last) >> 3);
    }
    first = static_cast<char>('0' + rest / kPowersOfTen[8]);
    const uint64_t next = EightDigits(static_cast<uint32_t>(rest % kPowersOfTen[8]));
    tail |= next;
    count = std::max(count, next == 0 ? 1 : 9 - (__builtin_clzll(next) >> 3));
    tail |= kDigits == 9 ? Tail{0x3030303030303030} : static_cast<Tail>(-1) / 255 * 0x30;
  }

  char first;
  Tail tail = 0;
  int count = 0;  // of the digits up to the last that is no zero
  int exponent;   // of the first digit
};

// Which of the two notations is shorter, as std::to_chars decides it.
template <typename T>
bool IsShorterInFixed(const Decimal<T>& decimal) {
  const int last = decimal.exponent - (decimal.count - 1);
  return decimal.count == 1 ? last >= -3 && last <= 4 : last >= -(decimal.count + 3) && last <= 5;
}

template <typename T>
char* WriteScientific(char* out, const Decimal<T>& decimal) {
  *out++ = decimal.first;
  if (decimal.count > 1) {
    *out++ = '.';
    std::memcpy(out, &decimal.tail, sizeof(decimal.tail));
    out += decimal.count - 1;
  }
  *out++ = 'e';
  *out++ = decimal.exponent < 0 ? '-' : '+';
  const int exponent = std::abs(decimal.exponent);
  if (exponent < 10) *out++ = '0';
  return std::to_chars(out, out + 4, exponent).ptr;
}

// Without a branch that depends on where the point is: the next number's is elsewhere.
// Requires: -5 <= exponent <= digits10.
template <typename T>
char* WriteFixed(char* out, const Decimal<T>& decimal) {
  constexpr size_t kTail = sizeof(decimal.tail);
  const bool fraction = decimal.exponent < 0;
  std::memcpy(out, "0.000000", 8);
  char* const first = out + (fraction ? 1 - decimal.exponent : 0);
  *first = decimal.first;
  std::memcpy(first + 1, &decimal.tail, kTail);
  const int before = fraction ? 0 : decimal.exponent;  // digits of the tail that are before the point
  const auto after = decimal.tail >> (8 * before);
  char nowhere[kTail + 1];
  char* const point = fraction ? nowhere : out + before + 1;
  *point = '.';
  std::memcpy(point + 1, &after, kTail);
  return first + (fraction ? decimal.count : std::max(decimal.count, before + 2) + 1);
}

char* WriteText(char* out, const char* text) {
  const size_t size = std::strlen(text);
  std::memcpy(out, text, size);
  return out + size;
}

template <typename T>
char* WriteFloat(char* out, T value) {
  if (std::isnan(value)) return WriteText(out, "NaN");
  *out = '-';
  out += std::signbit(value) ? 1 : 0;
  value = std::abs(value);
  if (std::isinf(value)) return WriteText(out, "Infinity");
  if (value == 0) return WriteText(out, "0.0");
  const Decimal<T> decimal(value);
  if (!IsShorterInFixed(decimal)) return WriteScientific(out, decimal);
  if (decimal.exponent <= std::numeric_limits<T>::digits10) return WriteFixed(out, decimal);
  // Where the digits end before the point, all of an integer's are written.
  return WriteText(std::to_chars(out, out + kRoom / 2, value, std::chars_format::fixed).ptr, ".0");
}

template <typename T>
char* WriteNumber(char* out, T value) {
  if constexpr (std::is_floating_point_v<T>) {
    return WriteFloat(out, value);
  } else {
    return std::to_chars(out, out + kRoom / 2, value).ptr;
  }
}

template <typename T>
void AppendOne(std::string& out, T value) {
  char text[kRoom];
  out.append(text, WriteNumber(text, value));
}

}  // namespace

void AppendJsonNumber(std::string& out, int64_t value) { AppendOne(out, value); }
void AppendJsonNumber(std::string& out, uint64_t value) { AppendOne(out, value); }
void AppendJsonNumber(std::string& out, double value) { AppendOne(out, value); }

template <typename T>
void AppendJsonNumbers(std::string& out, const void* elements, size_t count) {
  if (count == 0) return;
  const char* next = static_cast<const char*>(elements);
  char chunk[kChunk + kRoom];
  char* end = chunk;
  const size_t before = out.size();
  for (size_t i = 0; i < count; ++i, next += sizeof(T)) {
    if (end >= chunk + kChunk) {
      // The rest is probably as long as what there is: to grow step by step would touch twice the memory.
      const size_t written = out.size() - before + static_cast<size_t>(end - chunk);
      if (before + written > out.capacity()) out.reserve(before + (written / i + 1) * count);
      out.append(chunk, end);
      end = chunk;
    }
    T element;
    std::memcpy(&element, next, sizeof(T));
    end = WriteNumber(end, element);
    *end++ = ',';
  }
  out.append(chunk, end - 1);
}

template void AppendJsonNumbers<uint8_t>(std::string&, const void*, size_t);
template void AppendJsonNumbers<uint16_t>(std::string&, const void*, size_t);
template void AppendJsonNumbers<uint32_t>(std::string&, const void*, size_t);
template void AppendJsonNumbers<uint64_t>(std::string&, const void*, size_t);
template void AppendJsonNumbers<int8_t>(std::string&, const void*, size_t);
template void AppendJsonNumbers<int16_t>(std::string&, const void*, size_t);
template void AppendJsonNumbers<int32_t>(std::string&, const void*, size_t);
template void AppendJsonNumbers<int64_t>(std::string&, const void*, size_t);
template void AppendJsonNumbers<float>(std::string&, const void*, size_t);
template void AppendJsonNumbers<double>(std::string&, const void*, size_t);

}  // namespace pyinfer
