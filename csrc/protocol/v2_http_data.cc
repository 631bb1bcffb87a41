// SPDX-License-Identifier: Apache-2.0
#include "protocol/v2_http_data.h"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/size.h"
#include "protocol/request_rules.h"
#include "wire/json_numbers.h"

namespace pyinfer::v2_http {
namespace {

// An array that says it has this many elements may have more: the parser counts no further.
constexpr size_t kSaturatedSize = 0xFFFFFF;
constexpr size_t kUnset = SIZE_MAX;
// The depth of an element that is in no array.
constexpr size_t kAlone = SIZE_MAX - 1;

// What nested arrays have in common: elements at one depth, and arrays of one size at each.
struct Nesting {
  Nesting() { sizes.fill(kUnset); }
  std::array<size_t, JsonDocument::kMaxDepth + 1> sizes;
  size_t leaf_depth = kUnset;
  uint64_t leaves = 0;
};

size_t CountElements(const JsonArray& array) {
  if (array.size() < kSaturatedSize) return array.size();
  size_t count = 0;
  for (auto at = array.begin(); at != array.end(); ++at) ++count;
  return count;
}

// Adds the elements below `array` to `nesting`; false where it is ragged. Whether elements are really no arrays is left
// to their conversion.
bool CountLeaves(const JsonArray& array, size_t depth, Nesting& nesting) {
  const size_t size = CountElements(array);
  if (nesting.sizes[depth] == kUnset) nesting.sizes[depth] = size;
  if (nesting.sizes[depth] != size) return false;
  if (size != 0 && (*array.begin()).is_array()) {
    for (const JsonValue child : array) {
      JsonArray inner;
      if (child.get_array().get(inner) != simdjson::SUCCESS || !CountLeaves(inner, depth + 1, nesting)) return false;
    }
    return true;
  }
  if (nesting.leaf_depth == kUnset) nesting.leaf_depth = depth;
  nesting.leaves += size;
  return nesting.leaf_depth == depth;
}

// Calls use(element) for each leaf; false as soon as it does.
template <typename Use>
bool ForEachLeaf(const JsonArray& array, size_t depth, size_t leaf_depth, Use& use) {
  for (const JsonValue value : array) {
    if (depth == leaf_depth) {
      if (!use(value)) return false;
    } else if (!ForEachLeaf(value.get_array().value_unsafe(), depth + 1, leaf_depth, use)) {
      return false;
    }
  }
  return true;
}

// The same for the elements of `data`, which `nesting` describes.
template <typename Use>
bool ForEachElement(const JsonValue& data, const Nesting& nesting, Use& use) {
  if (nesting.leaf_depth == kAlone) return use(data);
  return ForEachLeaf(data.get_array().value_unsafe(), 0, nesting.leaf_depth, use);
}

template <typename T>
bool Convert(const JsonValue& value, T& element) {
  if constexpr (std::is_same_v<T, bool>) {
    return value.get_bool().get(element) == simdjson::SUCCESS;
  } else if constexpr (std::is_floating_point_v<T>) {
    double number = 0;
    if (value.get_double().get(number) != simdjson::SUCCESS) return false;
    element = static_cast<T>(number);
    return std::isfinite(element);
  } else if constexpr (std::is_signed_v<T>) {
    int64_t number = 0;
    if (value.get_int64().get(number) != simdjson::SUCCESS) return false;
    element = static_cast<T>(number);
    return element == number;
  } else {
    uint64_t number = 0;
    if (value.get_uint64().get(number) != simdjson::SUCCESS) return false;
    element = static_cast<T>(number);
    return element == number;
  }
}

// What an element of `dtype` must be in JSON.
std::string_view WantedElement(DType dtype) {
  switch (dtype) {
    case DType::kBool:
      return "a boolean, for ";
    case DType::kBytes:
      return "a string, for ";
    case DType::kFp32:
    case DType::kFp64:
      return "a number in the range of ";
    default:
      return "an integer in the range of ";
  }
}

Status WrongElement(const Tensor& input) {
  return Status::InvalidArg("Unable to parse 'data': an element of input " + QuotedForError(input.name) + " is not " +
                            std::string(WantedElement(input.dtype)) + std::string(DTypeName(input.dtype)));
}

Status TooLarge(const Tensor& input, uint64_t size, size_t max_size) {
  return Status::InvalidArg("the data of input " + QuotedForError(input.name) + " has a size of " +
                            std::to_string(size) + " bytes, which exceeds the maximum allowed value of " +
                            std::to_string(max_size) + " bytes. Use --http-max-input-size to increase the limit.");
}

template <typename T>
StatusOr<Slice> ReadFixed(const JsonValue& data, const Nesting& nesting, const Tensor& input, size_t max_size) {
  const auto size = CheckedMultiply(nesting.leaves, sizeof(T));
  if (!size || *size > max_size) return TooLarge(input, nesting.leaves * sizeof(T), max_size);
  BufferPtr buffer = Buffer::Allocate(*size);
  T* next = reinterpret_cast<T*>(buffer->data());
  auto use = [&next](const JsonValue& value) { return Convert(value, *next++); };
  if (!ForEachElement(data, nesting, use)) return WrongElement(input);
  return Slice(std::move(buffer), 0, *size);
}

StatusOr<Slice> ReadStrings(const JsonValue& data, const Nesting& nesting, const Tensor& input, size_t max_size) {
  uint64_t size = 0;
  auto measure = [&size](const JsonValue& value) {
    std::string_view text;
    if (value.get_string().get(text) != simdjson::SUCCESS) return false;
    size += sizeof(uint32_t) + text.size();
    return text.size() <= std::numeric_limits<uint32_t>::max();
  };
  if (!ForEachElement(data, nesting, measure)) return WrongElement(input);
  if (size > max_size) return TooLarge(input, size, max_size);
  BufferPtr buffer = Buffer::Allocate(size);
  uint8_t* next = buffer->data();
  auto copy = [&next](const JsonValue& value) {
    const std::string_view text = value.get_string().value_unsafe();
    const auto length = static_cast<uint32_t>(text.size());
    std::memcpy(next, &length, sizeof(length));
    std::memcpy(next + sizeof(length), text.data(), length);
    next += sizeof(length) + length;
    return true;
  };
  ForEachElement(data, nesting, copy);
  return Slice(std::move(buffer), 0, size);
}

// Checks the number of elements; fills `nesting`.
Status CheckNesting(const JsonArray& array, const Tensor& input, uint64_t expected, Nesting& nesting) {
  if (!CountLeaves(array, 0, nesting)) {
    return Status::InvalidArg("Unable to parse 'data': the nested arrays of input " + QuotedForError(input.name) +
                              " are ragged, nest them regularly or give one flat array");
  }
  if (nesting.leaves == expected) return Status();
  return Status::InvalidArg("Unable to parse 'data': Shape does not match true shape of 'data' field: input " +
                            QuotedForError(input.name) + " of shape " + ShapeText(input.shape) + " has " +
                            std::to_string(expected) + " elements, got " + std::to_string(nesting.leaves));
}

StatusOr<Slice> ReadElements(const JsonValue& data, const Nesting& nesting, const Tensor& input, size_t max_size) {
  switch (input.dtype) {
    case DType::kBool:
      return ReadFixed<bool>(data, nesting, input, max_size);
    case DType::kUint8:
      return ReadFixed<uint8_t>(data, nesting, input, max_size);
    case DType::kUint16:
      return ReadFixed<uint16_t>(data, nesting, input, max_size);
    case DType::kUint32:
      return ReadFixed<uint32_t>(data, nesting, input, max_size);
    case DType::kUint64:
      return ReadFixed<uint64_t>(data, nesting, input, max_size);
    case DType::kInt8:
      return ReadFixed<int8_t>(data, nesting, input, max_size);
    case DType::kInt16:
      return ReadFixed<int16_t>(data, nesting, input, max_size);
    case DType::kInt32:
      return ReadFixed<int32_t>(data, nesting, input, max_size);
    case DType::kInt64:
      return ReadFixed<int64_t>(data, nesting, input, max_size);
    case DType::kFp32:
      return ReadFixed<float>(data, nesting, input, max_size);
    case DType::kFp64:
      return ReadFixed<double>(data, nesting, input, max_size);
    case DType::kBytes:
      return ReadStrings(data, nesting, input, max_size);
    default:
      return Status::InvalidArg("input " + QuotedForError(input.name) + " has an unknown datatype");
  }
}

Status CheckReadable(const Tensor& input) {
  if (input.dtype != DType::kFp16 && input.dtype != DType::kBf16) return Status();
  return Status::InvalidArg("receiving " + std::string(DTypeName(input.dtype)) +
                            " data via JSON is not supported. Please use the binary data format for input " +
                            CutForError(input.name));
}

}  // namespace

uint64_t CountJsonElements(const JsonValue& data) {
  JsonArray array;
  return data.get_array().get(array) == simdjson::SUCCESS ? CountElements(array) : 1;
}

StatusOr<Slice> ReadJsonScalar(const JsonValue& element, const Tensor& input, size_t max_size) {
  if (Status status = CheckReadable(input); !status.ok()) return status;
  Nesting nesting;
  nesting.leaf_depth = kAlone;
  nesting.leaves = 1;
  return ReadElements(element, nesting, input, max_size);
}

StatusOr<Slice> ReadJsonData(const JsonValue& data, const Tensor& input, size_t max_size) {
  const auto expected = ElementCount(input.shape);
  if (expected == uint64_t{0}) return Slice::Copy(nullptr, 0);
  if (Status status = CheckReadable(input); !status.ok()) return status;
  if (!expected) {
    return Status::InvalidArg("the shape " + ShapeText(input.shape) + " of input " + QuotedForError(input.name) +
                              " is too large");
  }
  JsonArray array;
  if (data.get_array().get(array) != simdjson::SUCCESS) {
    return Status::InvalidArg("Unable to parse 'data': attempt to access JSON non-array as array");
  }
  Nesting nesting;
  if (Status status = CheckNesting(array, input, *expected, nesting); !status.ok()) return status;
  return ReadElements(data, nesting, input, max_size);
}

namespace {

void AppendBooleans(std::string& out, const Slice& data) {
  for (size_t i = 0; i < data.size(); ++i) {
    if (i != 0) out += ',';
    out += data.data()[i] != 0 ? "true" : "false";
  }
}

template <typename T>
void AppendNumbers(std::string& out, const Slice& data) {
  AppendJsonNumbers<T>(out, data.data(), data.size() / sizeof(T));
}

// Requires: nothing; elements that do not fit the data end the list.
bool AppendStrings(std::string& out, std::string_view data) {
  bool first = true;
  while (!data.empty()) {
    uint32_t length = 0;
    if (data.size() < sizeof(length)) return false;
    std::memcpy(&length, data.data(), sizeof(length));
    data.remove_prefix(sizeof(length));
    if (length > data.size()) return false;
    if (!first) out += ',';
    first = false;
    AppendJsonString(out, data.substr(0, length));
    data.remove_prefix(length);
  }
  return true;
}

Status AppendElements(std::string& out, const Tensor& output) {
  const Slice& data = output.data;
  switch (output.dtype) {
    case DType::kBool:
      AppendBooleans(out, data);
      return Status();
    case DType::kUint8:
      AppendNumbers<uint8_t>(out, data);
      return Status();
    case DType::kUint16:
      AppendNumbers<uint16_t>(out, data);
      return Status();
    case DType::kUint32:
      AppendNumbers<uint32_t>(out, data);
      return Status();
    case DType::kUint64:
      AppendNumbers<uint64_t>(out, data);
      return Status();
    case DType::kInt8:
      AppendNumbers<int8_t>(out, data);
      return Status();
    case DType::kInt16:
      AppendNumbers<int16_t>(out, data);
      return Status();
    case DType::kInt32:
      AppendNumbers<int32_t>(out, data);
      return Status();
    case DType::kInt64:
      AppendNumbers<int64_t>(out, data);
      return Status();
    case DType::kFp32:
      AppendNumbers<float>(out, data);
      return Status();
    case DType::kFp64:
      AppendNumbers<double>(out, data);
      return Status();
    case DType::kBytes:
      if (AppendStrings(out, data.view())) return Status();
      return Status::Internal("output " + QuotedForError(output.name) + " has elements that do not fit its bytes");
    default:
      return Status::InvalidArg("sending " + std::string(DTypeName(output.dtype)) +
                                " data via JSON is not supported. Please use the binary data format for output " +
                                QuotedForError(output.name));
  }
}

}  // namespace

Status AppendJsonData(std::string& out, const Tensor& output) {
  out += '[';
  Status status = AppendElements(out, output);
  out += ']';
  return status;
}

}  // namespace pyinfer::v2_http
