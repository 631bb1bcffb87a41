// SPDX-License-Identifier: Apache-2.0
#include "sched/ragged.h"

#include <algorithm>
#include <string>
#include <utility>

namespace pyinfer {
namespace {

const Tensor* FindSource(const Request& request, const std::string& name) {
  for (const Tensor& input : request.inputs) {
    if (input.name == name) return &input;
  }
  return nullptr;
}

// Of a request without the source input, which is optional then: none.
int64_t Elements(const Request& request, const std::string& source) {
  const Tensor* input = FindSource(request, source);
  return input == nullptr ? 0 : static_cast<int64_t>(ElementCount(input->shape).value_or(0));
}

std::vector<int64_t> ElementCounts(const Batch& batch, const std::string& source) {
  std::vector<int64_t> counts;
  for (size_t i = 0; i < batch.size(); ++i) counts.push_back(Elements(batch.request(i), source));
  return counts;
}

std::vector<int64_t> Accumulated(const Batch& batch, const std::string& source, bool with_zero) {
  std::vector<int64_t> sums;
  int64_t sum = 0;
  if (with_zero) sums.push_back(sum);
  for (const int64_t count : ElementCounts(batch, source)) sums.push_back(sum += count);
  return sums;
}

// Of each row of each request, the dimensions of the source input behind the batch dimension.
std::vector<int64_t> ItemShapes(const Batch& batch, const std::string& source, int64_t& rank) {
  std::vector<int64_t> dims;
  for (size_t i = 0; i < batch.size(); ++i) {
    const Tensor* input = FindSource(batch.request(i), source);
    if (input == nullptr || input->shape.empty()) continue;
    rank = static_cast<int64_t>(input->shape.size()) - 1;
    for (int64_t row = 0; row < input->shape[0]; ++row) {
      dims.insert(dims.end(), input->shape.begin() + 1, input->shape.end());
    }
  }
  return dims;
}

template <typename Number>
Slice NumbersAs(const std::vector<int64_t>& values) {
  std::vector<Number> converted;
  converted.reserve(values.size());
  for (const int64_t value : values) converted.push_back(static_cast<Number>(value));
  return Slice::Copy(converted.data(), converted.size() * sizeof(Number));
}

Tensor MakeBatchInput(const Batch& batch, const BatchInput& input) {
  using Kind = BatchInput::Kind;
  std::vector<int64_t> values;
  Shape shape;
  switch (input.kind) {
    case Kind::kElementCount:
      values = ElementCounts(batch, input.source);
      break;
    case Kind::kAccumulatedElementCount:
    case Kind::kAccumulatedElementCountWithZero:
      values = Accumulated(batch, input.source, input.kind == Kind::kAccumulatedElementCountWithZero);
      break;
    case Kind::kMaxElementCountAsShape: {
      const std::vector<int64_t> counts = ElementCounts(batch, input.source);
      values.assign(static_cast<size_t>(*std::max_element(counts.begin(), counts.end())), 0);
      break;
    }
    case Kind::kItemShape:
    case Kind::kItemShapeFlatten: {
      int64_t rank = 0;
      values = ItemShapes(batch, input.source, rank);
      const auto count = static_cast<int64_t>(values.size());
      if (input.kind == Kind::kItemShape) shape = {rank == 0 ? 0 : count / rank, rank};
      break;
    }
  }
  if (shape.empty()) shape = {static_cast<int64_t>(values.size())};
  Tensor made{{}, input.dtype, std::move(shape), {}};
  made.data = input.dtype == DType::kFp32 ? NumbersAs<float>(values) : NumbersAs<int32_t>(values);
  return made;
}

}  // namespace

void AddBatchInputs(const Batch& batch, std::vector<Tensor>& packed) {
  for (const BatchInput& input : batch.model().batch_inputs) {
    const Tensor made = MakeBatchInput(batch, input);
    for (const std::string& target : input.targets) packed.emplace_back(made).name = target;
  }
}

const BatchOutput* FindBatchOutput(const ModelSpec& model, std::string_view output) {
  for (const BatchOutput& one : model.batch_outputs) {
    if (std::find(one.targets.begin(), one.targets.end(), output) != one.targets.end()) return &one;
  }
  return nullptr;
}

Shape ScatteredShape(const TensorSpec& output, const Tensor& source) {
  Shape shape = output.executor_dims();
  shape.insert(shape.begin(), -1);
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == -1) shape[i] = i < source.shape.size() ? source.shape[i] : 1;
  }
  return shape;
}

}  // namespace pyinfer
