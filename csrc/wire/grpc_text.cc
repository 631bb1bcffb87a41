// SPDX-License-Identifier: Apache-2.0
#include "wire/grpc_text.h"

#include <charconv>

namespace pyinfer {

std::string EncodeGrpcMessage(std::string_view message) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string encoded;
  encoded.reserve(message.size());
  for (const char c : message.substr(0, 4096)) {
    if (c >= ' ' && c <= '~' && c != '%') {
      encoded += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      encoded += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return encoded;
}

std::optional<int64_t> ParseGrpcTimeout(std::string_view text) {
  if (text.size() < 2 || text.size() > 9) return std::nullopt;
  int64_t value = 0;
  const char* unit = text.data() + text.size() - 1;
  const auto [end, error] = std::from_chars(text.data(), unit, value);
  if (error != std::errc() || end != unit || value < 0 || text[0] == '-') return std::nullopt;
  int64_t scale = 0;
  switch (*unit) {
    case 'H':
      scale = 3600'000'000'000;
      break;
    case 'M':
      scale = 60'000'000'000;
      break;
    case 'S':
      scale = 1'000'000'000;
      break;
    case 'm':
      scale = 1'000'000;
      break;
    case 'u':
      scale = 1'000;
      break;
    case 'n':
      scale = 1;
      break;
    default:
      return std::nullopt;
  }
  constexpr int64_t kLongest = int64_t{100} * 365 * 24 * 3600'000'000'000 / 2;
  return value > kLongest / scale ? kLongest : value * scale;
}

bool IsGrpcContentType(std::string_view type) {
  if (type.substr(0, kGrpcContentType.size()) != kGrpcContentType) return false;
  const std::string_view rest = type.substr(kGrpcContentType.size());
  return rest.empty() || rest == "+proto" || rest[0] == ';';
}

}  // namespace pyinfer
