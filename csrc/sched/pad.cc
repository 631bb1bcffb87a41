// SPDX-License-Identifier: Apache-2.0
#include "sched/pad.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "infer/padding.h"

namespace pyinfer {
namespace {

using Padded = PaddingOptions::Tensor;

template <typename Element>
uint8_t* FillAs(uint8_t* to, const std::string& fill, uint64_t count) {
  Element element;
  std::memcpy(&element, fill.data(), sizeof(element));
  auto* const begin = reinterpret_cast<Element*>(to);  // aligned: buffers are, and all elements are of one size
  std::fill(begin, begin + count, element);
  return to + count * sizeof(element);
}

// Writes `count` elements `fill`; returns where they end.
uint8_t* Fill(uint8_t* to, DType dtype, const std::string& fill, uint64_t count) {
  switch (DTypeSize(dtype)) {
    case 1:
      return FillAs<uint8_t>(to, fill, count);
    case 2:
      return FillAs<uint16_t>(to, fill, count);
    case 4:
      return FillAs<uint32_t>(to, fill, count);
    case 8:
      return FillAs<uint64_t>(to, fill, count);
    default:
      break;
  }
  for (; count != 0; --count) to = std::copy(fill.begin(), fill.end(), to);
  return to;
}

// Writes `input`, padded to `shape`; returns where it ends.
uint8_t* CopyPadded(const Tensor& input, const Shape& shape, const std::string& fill, uint8_t* to) {
  const uint8_t* from = input.data.data();
  const uint8_t* const end = from + input.data.size();
  const auto copy = [&](uint64_t count) {
    size_t bytes = static_cast<size_t>(count) * DTypeSize(input.dtype);
    if (input.dtype == DType::kBytes) {
      const std::string_view left(reinterpret_cast<const char*>(from), static_cast<size_t>(end - from));
      bytes = WalkBytes(left, count, "").value();  // checked when its padding was measured, and nobody's since
    }
    if (bytes != 0) std::memcpy(to, from, bytes);
    from += bytes;
    to += bytes;
  };
  WalkCorner(input.shape, shape, copy, [&](uint64_t count) { to = Fill(to, input.dtype, fill, count); });
  return to;
}

// Each request's input `which`, padded, in one buffer.
void PadInput(std::vector<RequestPtr>& requests, size_t which, const Padded& padded) {
  std::vector<Shape> shapes;
  std::vector<size_t> sizes;
  size_t size = 0;
  for (const RequestPtr& request : requests) {
    const Tensor& input = request->inputs[which];
    shapes.push_back(PaddedShape(padded, *request->padding, input.shape));
    // There are counts: they were looked at when the padding was measured.
    const uint64_t more = ElementCount(shapes.back()).value() - ElementCount(input.shape).value();
    sizes.push_back(input.data.size() + static_cast<size_t>(more) * padded.fill.size());
    size += sizes.back();
  }
  const BufferPtr buffer = Buffer::Allocate(size);
  size_t offset = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    Tensor& input = requests[i]->inputs[which];
    CopyPadded(input, shapes[i], padded.fill, buffer->data() + offset);
    input.shape = std::move(shapes[i]);
    input.data = Slice(buffer, offset, sizes[i]);
    input.shared = false;
    offset += sizes[i];
  }
}

// Adds to each request how long its rows were.
template <typename Number>
void AddLengths(std::vector<RequestPtr>& requests, size_t axis, const PaddingOptions::Axis& told) {
  size_t rows = 0;
  for (const RequestPtr& request : requests) rows += static_cast<size_t>(request->batch_size);
  const BufferPtr buffer = Buffer::Allocate(rows * sizeof(Number));
  auto* to = reinterpret_cast<Number*>(buffer->data());
  size_t offset = 0;
  for (const RequestPtr& request : requests) {
    const int64_t length = std::max<int64_t>(0, request->padding->own[axis]);
    to = std::fill_n(to, request->batch_size, static_cast<Number>(length));
    const size_t bytes = static_cast<size_t>(request->batch_size) * sizeof(Number);
    request->inputs.push_back({told.lengths, told.lengths_dtype, {request->batch_size}, Slice(buffer, offset, bytes)});
    offset += bytes;
  }
}

// Of an axis that is padded to the longest, what that is.
void FindLongest(std::vector<RequestPtr>& requests, size_t axis) {
  int64_t longest = -1;
  for (const RequestPtr& request : requests) longest = std::max(longest, request->padding->own[axis]);
  for (const RequestPtr& request : requests) request->padding->padded[axis] = longest;
}

}  // namespace

void PadInputs(std::vector<RequestPtr>& requests) {
  const PaddingOptions& options = *requests.front()->model->padding;
  for (size_t axis = 0; axis < options.axes.size(); ++axis) {
    if (options.axes[axis].to_longest) FindLongest(requests, axis);
  }
  const size_t inputs = requests.front()->inputs.size();
  for (size_t which = 0; which < inputs; ++which) {
    for (const Padded& padded : options.inputs) {
      if (padded.name == requests.front()->inputs[which].name) PadInput(requests, which, padded);
    }
  }
  for (size_t axis = 0; axis < options.axes.size(); ++axis) {
    const PaddingOptions::Axis& told = options.axes[axis];
    if (told.lengths.empty()) continue;
    if (told.lengths_dtype == DType::kInt64) {
      AddLengths<int64_t>(requests, axis, told);
    } else {
      AddLengths<int32_t>(requests, axis, told);
    }
  }
}

}  // namespace pyinfer
