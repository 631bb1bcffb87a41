// SPDX-License-Identifier: Apache-2.0
#include "sched/pack.h"

#include <cstring>
#include <string>

#include "sched/batch.h"

namespace pyinfer {
namespace {

Tensor PackOne(const Batch& batch, size_t input) {
  const Tensor& first = batch.request(0).inputs[input];
  Tensor packed{first.name, first.dtype, first.shape, {}};
  if (batch.size() == 1) {
    packed.data = first.data;
    return packed;
  }
  size_t bytes = 0;
  int64_t rows = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    bytes += batch.request(i).inputs[input].data.size();
    rows += batch.request(i).inputs[input].shape[0];
  }
  packed.shape[0] = rows;
  BufferPtr buffer = Buffer::Allocate(bytes);
  size_t offset = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    const Slice& data = batch.request(i).inputs[input].data;
    if (data.empty()) continue;
    std::memcpy(buffer->data() + offset, data.data(), data.size());
    offset += data.size();
  }
  packed.data = Slice(std::move(buffer), 0, bytes);
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

// Appends the requests' parts of `output` to `parts`.
Status SplitOne(const Batch& batch, const Tensor& output, std::vector<std::vector<Tensor>>& parts) {
  if (output.shape.empty() || output.shape[0] != TrueRows(batch)) return WrongRows(batch, output);
  const auto row_elements = ElementCount(Shape(output.shape.begin() + 1, output.shape.end()));
  const bool fixed_size = output.dtype != DType::kBytes;
  if (!row_elements || (fixed_size && ByteSize(output.dtype, output.shape) != output.data.size())) {
    return Status::Internal("the data of output '" + output.name + "' of model '" + batch.model().name +
                            "' does not fill its shape " + ShapeText(output.shape));
  }
  size_t offset = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    Tensor part{output.name, output.dtype, output.shape, {}};
    part.shape[0] = batch.request(i).batch_size;
    const uint64_t elements = static_cast<uint64_t>(part.shape[0]) * *row_elements;
    size_t bytes = static_cast<size_t>(elements) * DTypeSize(output.dtype);
    if (!fixed_size) {
      StatusOr<size_t> used = WalkBytes(output.data.view().substr(offset), elements, "output '" + output.name + "'");
      if (!used.ok()) return Status::Internal(used.status().message());
      bytes = used.value();
    }
    part.data = output.data.Sub(offset, bytes);
    offset += bytes;
    parts[i].push_back(std::move(part));
  }
  return Status();
}

}  // namespace

std::vector<Tensor> Pack(const Batch& batch) {
  std::vector<Tensor> packed;
  const size_t inputs = batch.request(0).inputs.size();
  packed.reserve(inputs);
  for (size_t input = 0; input < inputs; ++input) packed.push_back(PackOne(batch, input));
  return packed;
}

StatusOr<std::vector<std::vector<Tensor>>> Split(const Batch& batch, std::vector<Tensor> outputs) {
  std::vector<std::vector<Tensor>> parts(batch.size());
  if (batch.size() == 1) {
    parts[0] = std::move(outputs);
    return parts;
  }
  for (auto& part : parts) part.reserve(outputs.size());
  for (const Tensor& output : outputs) {
    if (batch.model().FindOutput(output.name) == nullptr) {
      return Status::Internal("the model returned an unknown output '" + output.name + "' of model '" +
                              batch.model().name + "'");
    }
    if (Status status = SplitOne(batch, output, parts); !status.ok()) return status;
  }
  return parts;
}

}  // namespace pyinfer
