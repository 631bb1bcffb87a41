// SPDX-License-Identifier: Apache-2.0
#include "sched/sequence_state.h"

#include <algorithm>
#include <string>
#include <utility>

namespace pyinfer {
namespace {

Shape WithBatch(const ModelSpec& model, Shape dims) {
  if (model.has_batch_dimension()) dims.insert(dims.begin(), 1);
  return dims;
}

bool Matches(const Shape& dims, const Shape& shape) {
  return std::equal(dims.begin(), dims.end(), shape.begin(), shape.end(),
                    [](int64_t dim, int64_t given) { return given >= 0 && (dim == -1 || dim == given); });
}

Status CheckStateOutput(const ModelSpec& model, const SequenceStateSpec& state, const Tensor& output) {
  const auto where = [&] { return "state output '" + output.name + "' of model '" + model.name + "'"; };
  if (output.dtype != state.dtype) {
    return Status::Internal("the data type of " + where() + " is '" + std::string(DTypeName(output.dtype)) +
                            "', expected '" + std::string(DTypeName(state.dtype)) + "'");
  }
  const Shape expected = WithBatch(model, state.dims);
  if (!Matches(expected, output.shape)) {
    return Status::Internal("the shape of " + where() + " is " + ShapeText(output.shape) + ", expected " +
                            ShapeText(expected));
  }
  return Status();
}

}  // namespace

SequenceState::SequenceState(const ModelSpec& model) {
  for (const SequenceStateSpec& state : model.sequence->states) {
    Tensor& tensor = tensors_.emplace_back();
    tensor.name = state.input_name;
    tensor.dtype = state.dtype;
    tensor.shape = WithBatch(model, state.initial_shape);
    tensor.data = state.initial;
    tensor.shared = true;
  }
}

std::vector<Tensor> SequenceState::Inputs() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return tensors_;
}

void SequenceState::Replace(std::vector<Tensor> inputs, bool whole) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (Tensor& input : inputs) {
    input.shared = true;
    for (Tensor& tensor : tensors_) {
      if (tensor.name == input.name) tensor = std::move(input);
    }
  }
  whole_ = whole;
}

void SequenceState::Compact() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (std::exchange(whole_, true)) return;
  for (Tensor& tensor : tensors_) tensor.data = Slice::Copy(tensor.data.data(), tensor.data.size());
}

bool SequenceState::SameShapes(const SequenceState& other) const {
  if (this == &other) return true;
  const std::vector<Tensor> theirs = other.Inputs();
  std::lock_guard<std::mutex> lock(mutex_);
  return std::equal(tensors_.begin(), tensors_.end(), theirs.begin(),
                    [](const Tensor& a, const Tensor& b) { return a.shape == b.shape; });
}

StatusOr<std::vector<Tensor>> TakeStateOutputs(const ModelSpec& model, std::vector<Tensor>& outputs) {
  std::vector<Tensor> inputs;
  for (const Tensor& output : outputs) {
    const SequenceStateSpec* state = model.sequence->FindStateOutput(output.name);
    if (state == nullptr) continue;
    if (Status status = CheckStateOutput(model, *state, output); !status.ok()) return status;
    Tensor& input = inputs.emplace_back(output);
    input.name = state->input_name;
  }
  const auto only_state = [&](const Tensor& output) {
    return model.sequence->FindStateOutput(output.name) != nullptr && model.FindOutput(output.name) == nullptr;
  };
  outputs.erase(std::remove_if(outputs.begin(), outputs.end(), only_state), outputs.end());
  return inputs;
}

}  // namespace pyinfer
