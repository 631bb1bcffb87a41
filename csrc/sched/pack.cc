// SPDX-License-Identifier: Apache-2.0
#include "sched/pack.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "sched/batch.h"
#include "sched/ragged.h"

namespace pyinfer {
namespace {

// The shape of the requests' tensors together: their elements where they may differ in shape, else their rows.
Shape PackedShape(const Batch& batch, size_t input, bool ragged) {
  Shape shape = batch.request(0).inputs[input].shape;
  if (batch.size() == 1 && !ragged) return shape;
  int64_t rows = 0;
  int64_t elements = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    const Shape& one = batch.request(i).inputs[input].shape;
    if (ragged) {
      elements += static_cast<int64_t>(ElementCount(one).value_or(0));
    } else {
      rows += one[0];
    }
  }
  if (ragged) return {elements};
  shape[0] = rows;
  return shape;
}

// The bytes of `packed`: those of the `count` tensors that `at` gives, copied unless they lie together already.
template <typename At>
void PackData(size_t count, const At& at, Tensor& packed) {
  Slice together = at(0).data;
  size_t bytes = 0;
  bool adjacent = true;
  bool shared = false;
  for (size_t i = 0; i < count; ++i) {
    const Tensor& one = at(i);
    bytes += one.data.size();
    shared = shared || one.shared;
    adjacent = adjacent && (i == 0 || together.Extend(one.data));
  }
  if (adjacent) {
    packed.data = std::move(together);
    packed.shared = shared;
    return;
  }
  BufferPtr buffer = Buffer::Allocate(bytes);
  size_t offset = 0;
  for (size_t i = 0; i < count; ++i) {
    const Slice& data = at(i).data;
    if (data.empty()) continue;
    std::memcpy(buffer->data() + offset, data.data(), data.size());
    offset += data.size();
  }
  packed.data = Slice(std::move(buffer), 0, bytes);
}

Tensor PackOne(const Batch& batch, size_t input) {
  const Tensor& first = batch.request(0).inputs[input];
  const TensorSpec* spec = batch.model().FindInput(first.name);
  const bool ragged = spec != nullptr && spec->ragged;
  Tensor packed{first.name, first.dtype, PackedShape(batch, input, ragged), {}};
  PackData(batch.size(), [&](size_t i) -> const Tensor& { return batch.request(i).inputs[input]; }, packed);
  return packed;
}

// Unlike batch.rows(), which counts a request without rows as one.
int64_t TrueRows(const Batch& batch) {
  int64_t rows = 0;
  for (size_t i = 0; i < batch.size(); ++i) rows += batch.request(i).batch_size;
  return rows;
}

Status WrongRows(const Batch& batch, const Tensor& output) {
  return Status::Internal("the shape of output '" + output.name + "' of model '" + batch.model().name + "' is " +
                          ShapeText(output.shape) + ", expected " + std::to_string(TrueRows(batch)) + " rows");
}

Status DoesNotFill(const Batch& batch, const Tensor& output) {
  return Status::Internal("the data of output '" + output.name + "' of model '" + batch.model().name +
                          "' does not fill its shape " + ShapeText(output.shape));
}

// Cuts the parts of the given shapes off the front of `output`, one for each request. Returns how many bytes they are.
StatusOr<size_t> Cut(const Tensor& output, const std::vector<Shape>& shapes, std::vector<std::vector<Tensor>>& parts) {
  size_t offset = 0;
  for (size_t i = 0; i < shapes.size(); ++i) {
    const auto elements = ElementCount(shapes[i]);
    if (!elements) return Status::Internal("output '" + output.name + "' is too large");
    size_t bytes = static_cast<size_t>(*elements) * DTypeSize(output.dtype);
    const std::string_view left = output.data.view().substr(offset);
    if (output.dtype == DType::kBytes) {
      StatusOr<size_t> used = WalkBytes(left, *elements, "output '" + output.name + "'");
      if (!used.ok()) return Status::Internal(used.status().message());
      bytes = used.value();
    } else if (bytes > left.size()) {
      return Status::Internal("output '" + output.name + "' has fewer elements than the requests of its batch");
    }
    parts[i].push_back({output.name, output.dtype, shapes[i], output.data.Sub(offset, bytes)});
    parts[i].back().shared = output.shared;
    offset += bytes;
  }
  return offset;
}

// Appends the requests' rows of `output` to `parts`.
Status SplitRows(const Batch& batch, const Tensor& output, std::vector<std::vector<Tensor>>& parts) {
  if (output.shape.empty() || output.shape[0] != TrueRows(batch)) return WrongRows(batch, output);
  const auto row_elements = ElementCount(Shape(output.shape.begin() + 1, output.shape.end()));
  const bool fixed_size = output.dtype != DType::kBytes;
  if (!row_elements || (fixed_size && ByteSize(output.dtype, output.shape) != output.data.size())) {
    return DoesNotFill(batch, output);
  }
  std::vector<int64_t> rows;
  rows.reserve(batch.size());
  for (size_t i = 0; i < batch.size(); ++i) rows.push_back(batch.request(i).batch_size);
  return CutRows(output, rows, parts);
}

// The same where the requests' parts have the shapes of an input.
Status Scatter(const Batch& batch, const BatchOutput& how, const Tensor& output,
               std::vector<std::vector<Tensor>>& parts) {
  const TensorSpec& spec = *batch.model().FindOutput(output.name);
  std::vector<Shape> shapes;
  for (size_t i = 0; i < batch.size(); ++i) {
    const std::vector<Tensor>& inputs = batch.request(i).inputs;
    const auto source =
        std::find_if(inputs.begin(), inputs.end(), [&](const Tensor& input) { return input.name == how.source; });
    shapes.push_back(ScatteredShape(spec, source == inputs.end() ? Tensor() : *source));
  }
  StatusOr<size_t> used = Cut(output, shapes, parts);
  if (!used.ok()) return used.status();
  if (used.value() == output.data.size()) return Status();
  return Status::Internal("output '" + output.name + "' of model '" + batch.model().name +
                          "' has more elements than the requests of its batch");
}

}  // namespace

Status CutRows(const Tensor& tensor, const std::vector<int64_t>& rows, std::vector<std::vector<Tensor>>& parts) {
  std::vector<Shape> shapes(rows.size(), tensor.shape);
  for (size_t i = 0; i < rows.size(); ++i) shapes[i][0] = rows[i];
  return Cut(tensor, shapes, parts).status();
}

StatusOr<Tensor> JoinRows(std::vector<Tensor> pieces) {
  Tensor joined{pieces.front().name, pieces.front().dtype, pieces.front().shape, {}};
  joined.shape[0] = 0;
  for (const Tensor& piece : pieces) {
    const bool alike = piece.shape.size() == joined.shape.size() &&
                       std::equal(piece.shape.begin() + 1, piece.shape.end(), joined.shape.begin() + 1);
    if (!alike) {
      return Status::Internal("the parts of output '" + joined.name + "' differ in shape: " +
                              ShapeText(pieces.front().shape) + " and " + ShapeText(piece.shape));
    }
    joined.shape[0] += piece.shape[0];
  }
  PackData(pieces.size(), [&](size_t i) -> const Tensor& { return pieces[i]; }, joined);
  return joined;
}

std::vector<Tensor> Pack(const Batch& batch) {
  std::vector<Tensor> packed;
  const size_t inputs = batch.request(0).inputs.size();
  packed.reserve(inputs);
  for (size_t input = 0; input < inputs; ++input) packed.push_back(PackOne(batch, input));
  AddBatchInputs(batch, packed);
  return packed;
}

StatusOr<std::vector<std::vector<Tensor>>> Split(const Batch& batch, std::vector<Tensor> outputs) {
  std::vector<std::vector<Tensor>> parts(batch.size());
  if (batch.size() == 1 && batch.model().batch_outputs.empty()) {
    parts[0] = std::move(outputs);
    return parts;
  }
  for (auto& part : parts) part.reserve(outputs.size());
  for (const Tensor& output : outputs) {
    const auto& sequence = batch.model().sequence;
    const bool state = sequence && sequence->FindStateOutput(output.name) != nullptr;
    if (batch.model().FindOutput(output.name) == nullptr && !state) {
      return Status::Internal("the model returned an unknown output '" + output.name + "' of model '" +
                              batch.model().name + "'");
    }
    const BatchOutput* how = FindBatchOutput(batch.model(), output.name);
    Status status = how != nullptr && !state ? Scatter(batch, *how, output, parts) : SplitRows(batch, output, parts);
    if (!status.ok()) return status;
  }
  return parts;
}

}  // namespace pyinfer
