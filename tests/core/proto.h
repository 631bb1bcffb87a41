// SPDX-License-Identifier: Apache-2.0
// proto.h - protobuf messages written by hand, right ones and wrong ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace pyinfer::testing {

inline std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes += static_cast<char>(value);
}
// A field of wire type 2.
inline std::string Field(uint32_t number, std::string_view bytes) {
  return Varint(number << 3 | 2) + Varint(bytes.size()) + std::string(bytes);
}
// A field of wire type 0.
inline std::string Number(uint32_t number, int64_t value) {
  return Varint(number << 3) + Varint(static_cast<uint64_t>(value));
}
inline std::string Packed(const std::vector<int64_t>& values) {
  std::string bytes;
  for (const int64_t value : values) bytes += Varint(static_cast<uint64_t>(value));
  return bytes;
}
template <typename T>
std::string Raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// One entry of ModelInferRequest.inputs, with what else is to be in it.
inline std::string InputField(std::string_view name, std::string_view datatype, const std::vector<int64_t>& shape,
                              std::string_view more = "") {
  return Field(5, Field(1, name) + Field(2, datatype) + Field(3, Packed(shape)) + std::string(more));
}

// A message behind gRPC's prefix.
inline std::string Framed(std::string_view message, bool compressed = false) {
  std::string framed(1, compressed ? '\1' : '\0');
  for (int shift = 24; shift >= 0; shift -= 8) framed += static_cast<char>(message.size() >> shift);
  return framed += message;
}

}  // namespace pyinfer::testing
