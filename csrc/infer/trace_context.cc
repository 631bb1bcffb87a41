// SPDX-License-Identifier: Apache-2.0
#include "infer/trace_context.h"

#include <algorithm>

namespace pyinfer {
namespace {

// The value of a digit; 16 where it is none. Capital letters are no digits in this header.
unsigned Digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a') + 10;
  return 16;
}

template <size_t N>
bool ReadHex(std::string_view text, std::array<uint8_t, N>& bytes) {
  for (size_t i = 0; i < N; ++i) {
    const unsigned high = Digit(text[2 * i]);
    const unsigned low = Digit(text[2 * i + 1]);
    if (high == 16 || low == 16) return false;
    bytes[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return true;
}

template <size_t N>
void AppendHex(std::string& text, const std::array<uint8_t, N>& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
}

template <size_t N>
bool IsZero(const std::array<uint8_t, N>& bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

bool IsBlank(char c) { return c == ' ' || c == '\t'; }

}  // namespace

std::optional<TraceParent> ParseTraceParent(std::string_view text) {
  while (!text.empty() && IsBlank(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsBlank(text.back())) text.remove_suffix(1);
  constexpr size_t kSize = 55;
  if (text.size() < kSize || text[2] != '-' || text[35] != '-' || text[52] != '-') return std::nullopt;
  std::array<uint8_t, 1> version{};
  std::array<uint8_t, 1> flags{};
  TraceParent parent;
  if (!ReadHex(text, version) || !ReadHex(text.substr(3), parent.trace) || !ReadHex(text.substr(36), parent.span) ||
      !ReadHex(text.substr(53), flags)) {
    return std::nullopt;
  }
  if (version[0] == 0xff || IsZero(parent.trace) || IsZero(parent.span)) return std::nullopt;
  // Only a later version may have more fields.
  if (text.size() > kSize && (version[0] == 0 || text[kSize] != '-')) return std::nullopt;
  return parent;
}

std::string TraceParentText(const TraceId& trace, const SpanId& span) {
  std::string text = "00-";
  AppendHex(text, trace);
  text += '-';
  AppendHex(text, span);
  return text + "-01";
}

}  // namespace pyinfer
