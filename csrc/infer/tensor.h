// SPDX-License-Identifier: Apache-2.0
// tensor.h - a named, typed, shaped slice of bytes; and the one place where element counts and byte sizes are computed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "infer/dtype.h"
#include "memory/buffer.h"

namespace pyinfer {

using Shape = std::vector<int64_t>;

// Little-endian, row-major, no padding. BYTES: each element is a 4-byte little-endian length and then its bytes.
struct Tensor {
  std::string name;
  DType dtype = DType::kInvalid;
  Shape shape;
  Slice data;
  bool placed = false;  // an output whose bytes were put into shared memory, and are not in `data`
  bool shared = false;  // others read the same bytes: whoever wants to write to them copies them first
};

// Product of the dimensions (1 for a scalar); nothing where one is negative or where, zeros left aside, it is above
// INT64_MAX / 8: then bytes and strides fit in 63 bits whatever the data type is.
std::optional<uint64_t> ElementCount(const Shape& shape);
// Bytes of a tensor of a fixed-size type; nothing as above, and for BYTES.
std::optional<uint64_t> ByteSize(DType dtype, const Shape& shape);

// "[2,-1,16]"
[[gnu::cold]] std::string ShapeText(const Shape& shape);

// Where one BYTES tensor can be cut: the size in bytes of its first `count` elements.
// An InvalidArg names `what` ("inference input 'TEXT'") where an element does not fit the data.
StatusOr<size_t> WalkBytes(std::string_view data, uint64_t count, std::string_view what);
// Checks that `data` is exactly `count` elements.
Status CheckBytes(std::string_view data, uint64_t count, std::string_view what);

}  // namespace pyinfer
