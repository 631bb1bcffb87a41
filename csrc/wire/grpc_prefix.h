// SPDX-License-Identifier: Apache-2.0
// grpc_prefix.h - what stands before each message of gRPC: whether it is compressed, and its size.
//
// Source: "gRPC over HTTP2", Length-Prefixed-Message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pyinfer {

inline constexpr size_t kGrpcPrefixSize = 5;

// Writes the prefix of a message of `size` bytes (below 4 GiB) that is not compressed to the kGrpcPrefixSize bytes at
// `to`.
inline void WriteGrpcPrefix(char* to, uint64_t size) {
  to[0] = 0;
  for (size_t i = 0; i < 4; ++i) to[1 + i] = static_cast<char>(size >> (24 - 8 * i));
}

struct GrpcPrefix {
  uint8_t flag = 0;  // 1: compressed; others have no meaning
  uint32_t size = 0;
};

// The first bytes of `from`. Requires: there are kGrpcPrefixSize.
inline GrpcPrefix ReadGrpcPrefix(std::string_view from) {
  GrpcPrefix prefix{static_cast<uint8_t>(from[0]), 0};
  for (size_t i = 1; i < kGrpcPrefixSize; ++i) prefix.size = prefix.size << 8 | static_cast<uint8_t>(from[i]);
  return prefix;
}

// `message` behind its prefix.
inline std::string WithGrpcPrefix(std::string_view message) {
  std::string framed(kGrpcPrefixSize, '\0');
  framed += message;
  WriteGrpcPrefix(framed.data(), message.size());
  return framed;
}

}  // namespace pyinfer
