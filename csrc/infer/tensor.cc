// SPDX-License-Identifier: Apache-2.0
#include "infer/tensor.h"

#include <cstdint>
#include <cstring>

#include "base/size.h"

namespace pyinfer {

namespace {

constexpr uint64_t kMaxElements = INT64_MAX / 8;

}  // namespace

std::optional<uint64_t> ElementCount(const Shape& shape) {
  uint64_t count = 1;
  // A zero dimension does not excuse an overflow of the others: [0, 2^62, 2^62] is refused.
  uint64_t without_zeros = 1;
  for (int64_t dim : shape) {
    if (dim < 0) return std::nullopt;
    if (dim == 0) {
      count = 0;
      continue;
    }
    const auto product = CheckedMultiply(without_zeros, static_cast<uint64_t>(dim));
    if (!product || *product > kMaxElements) return std::nullopt;
    without_zeros = *product;
  }
  return count == 0 ? 0 : without_zeros;
}

std::optional<uint64_t> ByteSize(DType dtype, const Shape& shape) {
  const size_t element = DTypeSize(dtype);
  const auto count = ElementCount(shape);
  if (element == 0 || !count) return std::nullopt;
  return CheckedMultiply(*count, element);
}

std::string ShapeText(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i != 0) text += ',';
    text += std::to_string(shape[i]);
  }
  return text += ']';
}

namespace {

Status IncompleteLength(size_t left, std::string_view what) {
  return Status::InvalidArg("incomplete string length indicator for " + std::string(what) +
                            ", expecting 4 bytes but only " + std::to_string(left) +
                            " bytes available. Please make sure the string length indicator is in one buffer.");
}

}  // namespace

StatusOr<size_t> WalkBytes(std::string_view data, uint64_t count, std::string_view what) {
  size_t offset = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const size_t left = data.size() - offset;
    if (left == 0) {
      return Status::InvalidArg("expected " + std::to_string(count) + " string elements for " + std::string(what) +
                                ", got " + std::to_string(i));
    }
    uint32_t length = 0;
    if (left < sizeof(length)) return IncompleteLength(left, what);
    std::memcpy(&length, data.data() + offset, sizeof(length));
    offset += sizeof(length);
    if (length > data.size() - offset) {
      return Status::InvalidArg("incomplete string data for " + std::string(what) + ", expecting string of length " +
                                std::to_string(length) + " but only " + std::to_string(data.size() - offset) +
                                " bytes available");
    }
    offset += length;
  }
  return offset;
}

Status CheckBytes(std::string_view data, uint64_t count, std::string_view what) {
  StatusOr<size_t> used = WalkBytes(data, count, what);
  if (!used.ok()) return used.status();
  const size_t left = data.size() - used.value();
  if (left == 0) return Status();
  if (left < sizeof(uint32_t)) return IncompleteLength(left, what);
  return Status::InvalidArg("unexpected number of string elements " + std::to_string(count + 1) + " for " +
                            std::string(what) + ", expecting " + std::to_string(count));
}

}  // namespace pyinfer
