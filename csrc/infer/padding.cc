// SPDX-License-Identifier: Apache-2.0
#include "infer/padding.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/quoted.h"

namespace pyinfer {
namespace {

using Axis = PaddingOptions::Axis;
using Place = PaddingOptions::Place;

const PaddingOptions::Tensor* Find(const std::vector<PaddingOptions::Tensor>& tensors, std::string_view name) {
  for (const PaddingOptions::Tensor& one : tensors) {
    if (one.name == name) return &one;
  }
  return nullptr;
}

std::string Where(const Request& request, const Tensor& input) {
  return "input " + QuotedForError(input.name) + " for model " + QuotedForError(request.model->name);
}

std::string Length(const Tensor& input, size_t dim) {
  return std::to_string(input.shape[dim]) + " along dimension " + std::to_string(dim);
}

// Memory is not taken for what a shape merely says: with no element received, dimensions that the model leaves open
// could be of any size.
bool IsOpenAndEmpty(const Request& request, const PaddingOptions::Tensor& padded, const Tensor& input) {
  if (request.batch_size == 0 || ElementCount(input.shape).value_or(0) != 0) return false;
  const Shape& dims = request.model->FindInput(input.name)->dims;
  const auto open = static_cast<size_t>(std::count(dims.begin(), dims.end(), -1));
  return open > padded.places.size();
}

// Notes the length of `input` in `place`, and what it is padded to.
Status Measure(const Request& request, const Tensor& input, const Place& place, PaddedLengths& lengths) {
  const Axis& axis = request.model->padding->axes[place.axis];
  const int64_t length = input.shape[place.dim];
  int64_t& own = lengths.own[place.axis];
  if (own == length) return Status();
  if (own != -1) {
    return Status::InvalidArg(Where(request, input) + " has " + Length(input, place.dim) + ", but other inputs have " +
                              std::to_string(own) + " along '" + axis.name + "'");
  }
  const auto bucket = std::lower_bound(axis.buckets.begin(), axis.buckets.end(), length);
  if (bucket == axis.buckets.end()) {
    return Status::InvalidArg(Where(request, input) + " has " + Length(input, place.dim) + ", the most is " +
                              std::to_string(axis.buckets.back()) + " along '" + axis.name + "'");
  }
  own = length;
  lengths.padded[place.axis] = *bucket;
  return Status();
}

Status CheckPaddable(const Request& request, const PaddingOptions::Tensor& padded, Tensor& input) {
  if (IsOpenAndEmpty(request, padded, input)) {
    return Status::InvalidArg(Where(request, input) + " has no elements, shape " + ShapeText(input.shape));
  }
  const Shape shape = PaddedShape(padded, *request.padding, input.shape);
  const auto count = ElementCount(shape);
  if (!count) {
    return Status::InvalidArg("the shape " + ShapeText(input.shape) + " of " + Where(request, input) +
                              " is too large, padded to " + ShapeText(shape));
  }
  // The lengths of texts are read once more when they are padded: nobody may change them until then.
  if (input.dtype != DType::kBytes || !input.data.foreign()) return Status();
  StatusOr<Slice> copy = input.data.CopyToHost();
  if (!copy.ok()) return copy.status();
  input.data = std::move(copy).value();
  return CheckBytes(input.data.view(), ElementCount(input.shape).value_or(0), "inference " + Where(request, input));
}

}  // namespace

Shape PaddedShape(const PaddingOptions::Tensor& input, const PaddedLengths& lengths, Shape shape) {
  for (const Place& place : input.places) shape[place.dim] = lengths.padded[place.axis];
  return shape;
}

Status MeasurePadding(Request& request) {
  const PaddingOptions& options = *request.model->padding;
  auto lengths = std::make_unique<PaddedLengths>();
  lengths->own.assign(options.axes.size(), -1);
  lengths->padded.assign(options.axes.size(), -1);
  for (const Tensor& input : request.inputs) {
    const PaddingOptions::Tensor* padded = Find(options.inputs, input.name);
    if (padded == nullptr) continue;
    for (const Place& place : padded->places) {
      if (Status status = Measure(request, input, place, *lengths); !status.ok()) return status;
    }
  }
  request.padding = std::move(lengths);
  for (Tensor& input : request.inputs) {
    const PaddingOptions::Tensor* padded = Find(options.inputs, input.name);
    if (padded == nullptr) continue;
    if (Status status = CheckPaddable(request, *padded, input); !status.ok()) return status;
  }
  return Status();
}

bool SamePadding(const Request& a, const Request& b) {
  if (a.padding->padded != b.padding->padded) return false;
  for (size_t i = 0; i < a.inputs.size(); ++i) {
    const Shape& left = a.inputs[i].shape;
    const Shape& right = b.inputs[i].shape;
    if (left.size() != right.size()) return false;
    const PaddingOptions::Tensor* padded = Find(a.model->padding->inputs, a.inputs[i].name);
    size_t next = 0;  // of the padded places
    for (size_t dim = 1; dim < left.size(); ++dim) {
      if (padded != nullptr && next < padded->places.size() && padded->places[next].dim == dim) {
        ++next;
      } else if (left[dim] != right[dim]) {
        return false;
      }
    }
  }
  return true;
}

Status CutBack(const Request& request, Tensor& output) {
  const PaddingOptions::Tensor* padded = Find(request.model->padding->outputs, output.name);
  if (padded == nullptr) return Status();
  Shape shape = output.shape;
  for (const Place& place : padded->places) {
    const int64_t expected = request.padding->padded[place.axis];
    if (expected == -1) continue;  // the request has nothing that would be padded
    if (output.shape[place.dim] != expected) {
      return Status::Internal("output '" + output.name + "' of model '" + request.model->name + "' has " +
                              Length(output, place.dim) + ", expected " + std::to_string(expected) + ": '" +
                              request.model->padding->axes[place.axis].name + "' was padded to that");
    }
    shape[place.dim] = request.padding->own[place.axis];
  }
  if (shape == output.shape) return Status();
  const bool texts = output.dtype == DType::kBytes;
  const size_t element = DTypeSize(output.dtype);
  if (!texts && ByteSize(output.dtype, output.shape) != output.data.size()) {
    return Status::Internal("the data of output '" + output.name + "' of model '" + request.model->name +
                            "' does not fill its shape " + ShapeText(output.shape));
  }
  struct Run {
    size_t offset, size;
  };
  std::vector<Run> runs;  // of bytes that stay
  size_t offset = 0;
  size_t left = 0;
  Status broken;
  const auto bytes_of = [&](uint64_t count) {
    if (!texts) return static_cast<size_t>(count) * element;
    StatusOr<size_t> used = WalkBytes(output.data.view().substr(offset), count, "output '" + output.name + "'");
    if (!used.ok()) broken = Status::Internal(used.status().message());
    return used.ok() ? used.value() : size_t{0};
  };
  WalkCorner(
      shape, output.shape,
      [&](uint64_t count) {
        const size_t bytes = bytes_of(count);
        if (bytes != 0) runs.push_back({offset, bytes});
        offset += bytes;
        left += bytes;
      },
      [&](uint64_t count) { offset += bytes_of(count); });
  if (!broken.ok()) return broken;
  output.shape = std::move(shape);
  if (runs.size() == 1) {
    output.data = output.data.Sub(runs.front().offset, left);
    return Status();
  }
  BufferPtr buffer = Buffer::Allocate(left);
  uint8_t* to = buffer->data();
  for (const Run& run : runs) {
    std::memcpy(to, output.data.data() + run.offset, run.size);
    to += run.size;
  }
  output.data = Slice(std::move(buffer), 0, left);
  return Status();
}

}  // namespace pyinfer
