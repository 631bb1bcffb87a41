// SPDX-License-Identifier: Apache-2.0
#include "protocol/classification.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

namespace pyinfer {
namespace {

template <typename T>
struct Candidate {
  T value;
  uint32_t index;

  bool operator<(const Candidate& other) const {
    if constexpr (std::is_floating_point_v<T>) {
      const bool number = !std::isnan(value);
      const bool other_number = !std::isnan(other.value);
      if (number != other_number) return number;
      if (!number) return index < other.index;
    }
    return value != other.value ? value > other.value : index < other.index;
  }
};

template <typename T>
void AppendValue(std::string& text, T value) {
  char digits[400];  // the largest FP64 has 309 digits before its point
  char* const end = digits + sizeof(digits);
  if constexpr (std::is_floating_point_v<T>) {
    text.append(digits, std::to_chars(digits, end, value, std::chars_format::fixed, 6).ptr);
  } else {
    text.append(digits, std::to_chars(digits, end, value).ptr);
  }
}

// One element of a BYTES tensor.
void AppendElement(std::string& data, const std::string& text) {
  const auto length = static_cast<uint32_t>(text.size());
  data.append(reinterpret_cast<const char*>(&length), sizeof(length));
  data += text;
}

// The classes of one row of `count` elements.
template <typename T>
void AppendRow(std::string& data, const uint8_t* row, size_t count, size_t wanted,
               const std::vector<std::string>& labels) {
  std::vector<Candidate<T>> candidates(count);
  for (size_t i = 0; i < count; ++i) {
    // Elements may lie at any address, hence the copy of each.
    std::memcpy(&candidates[i].value, row + i * sizeof(T), sizeof(T));
    candidates[i].index = static_cast<uint32_t>(i);
  }
  const auto end = candidates.begin() + static_cast<std::ptrdiff_t>(wanted);
  std::partial_sort(candidates.begin(), end, candidates.end());
  std::string text;
  for (auto at = candidates.begin(); at != end; ++at) {
    text.clear();
    AppendValue(text, at->value);
    text += ':';
    text += std::to_string(at->index);
    if (at->index < labels.size() && !labels[at->index].empty()) {
      text += ':';
      text += labels[at->index];
    }
    AppendElement(data, text);
  }
}

using RowWriter = void (*)(std::string&, const uint8_t*, size_t, size_t, const std::vector<std::string>&);

// Null for the types that have no order to speak of.
RowWriter RowWriterOf(DType dtype) {
  switch (dtype) {
    case DType::kUint8:
      return AppendRow<uint8_t>;
    case DType::kUint16:
      return AppendRow<uint16_t>;
    case DType::kUint32:
      return AppendRow<uint32_t>;
    case DType::kUint64:
      return AppendRow<uint64_t>;
    case DType::kInt8:
      return AppendRow<int8_t>;
    case DType::kInt16:
      return AppendRow<int16_t>;
    case DType::kInt32:
      return AppendRow<int32_t>;
    case DType::kInt64:
      return AppendRow<int64_t>;
    case DType::kFp32:
      return AppendRow<float>;
    case DType::kFp64:
      return AppendRow<double>;
    default:
      return nullptr;
  }
}

const RequestedOutput* FindWish(const Request& request, const std::string& output) {
  for (const RequestedOutput& wish : request.requested_outputs) {
    if (wish.name == output) return &wish;
  }
  return nullptr;
}

}  // namespace

StatusOr<Tensor> Classify(const Tensor& output, uint64_t count, bool batched, const std::vector<std::string>& labels) {
  const RowWriter append_row = RowWriterOf(output.dtype);
  if (append_row == nullptr) {
    return Status::InvalidArg("class result not available for output due to unsupported type '" +
                              std::string(DTypeName(output.dtype)) + "'");
  }
  batched = batched && !output.shape.empty();
  const auto rows = static_cast<size_t>(batched ? output.shape[0] : 1);
  const auto row_elements = ElementCount(batched ? Shape(output.shape.begin() + 1, output.shape.end()) : output.shape);
  if (!row_elements || *row_elements > kMaxClassifiedElements) {
    return Status::InvalidArg("class result not available for output '" + output.name + "' of shape " +
                              ShapeText(output.shape) + ": it has more than " + std::to_string(kMaxClassifiedElements) +
                              " elements");
  }
  const size_t row_size = *row_elements * DTypeSize(output.dtype);
  if (row_size != 0 && output.data.size() / row_size < rows) {
    return Status::Internal("output '" + output.name + "' has fewer bytes than its shape says");
  }
  const uint64_t wanted = std::min(count, *row_elements);
  std::string data;
  if (wanted != 0) {
    for (size_t row = 0; row < rows; ++row) {
      append_row(data, output.data.data() + row * row_size, *row_elements, wanted, labels);
    }
  }
  Tensor classes{output.name, DType::kBytes, {static_cast<int64_t>(wanted)}, Slice()};
  if (batched) classes.shape.insert(classes.shape.begin(), output.shape[0]);
  classes.data = Slice(Buffer::FromString(std::move(data)));
  return classes;
}

bool WantsClasses(const Request& request) {
  return std::any_of(request.requested_outputs.begin(), request.requested_outputs.end(),
                     [](const RequestedOutput& output) { return output.classification != 0; });
}

StatusOr<std::vector<Tensor>> ClassifyOutputs(const Request& request, std::vector<Tensor> outputs) {
  static const std::vector<std::string> kNoLabels;
  for (Tensor& output : outputs) {
    const RequestedOutput* wish = FindWish(request, output.name);
    if (wish == nullptr || wish->classification == 0) continue;
    const TensorSpec* spec = request.model->FindOutput(output.name);
    StatusOr<Tensor> classes = Classify(output, wish->classification, request.model->has_batch_dimension(),
                                        spec != nullptr ? spec->labels : kNoLabels);
    if (!classes.ok()) return classes.status();
    output = std::move(classes).value();
  }
  return outputs;
}

}  // namespace pyinfer
