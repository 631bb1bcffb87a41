// SPDX-License-Identifier: Apache-2.0
// dtype.h - the data types of the protocol, their wire names and sizes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pyinfer {

enum class DType : uint8_t {
  kInvalid,
  kBool,
  kUint8,
  kUint16,
  kUint32,
  kUint64,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kFp16,
  kFp32,
  kFp64,
  kBytes,
  kBf16,
};

// The wire name ("FP32"); "<invalid>" for kInvalid.
std::string_view DTypeName(DType dtype);
// kInvalid for an unknown name. Names are case sensitive.
DType ParseDType(std::string_view name);
// Bytes of one element; 0 for BYTES and kInvalid.
size_t DTypeSize(DType dtype);

}  // namespace pyinfer
