// SPDX-License-Identifier: Apache-2.0
// sequence_state.h - the tensors that a sequence carries from each of its requests to the next.
//
// Values are never changed in place: a successful execution replaces them, so that one that fails leaves them as they
// were. Handing them on copies nothing; they are marked as shared, so that no executor writes to them.
//
// Source of the rules: Triton's implicit state.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "base/status.h"
#include "infer/request.h"

namespace pyinfer {

// Any thread.
class SequenceState {
 public:
  // The state before the first request. Requires: model.sequence; `model` outlives this.
  explicit SequenceState(const ModelSpec& model);

  std::vector<Tensor> Inputs() const;
  // Replaces those that `inputs` has. `whole`: their buffers hold nothing else.
  void Replace(std::vector<Tensor> inputs, bool whole);
  // Lets go of the rows of others: to be called where this is not taken together with those it was executed with.
  void Compact();
  bool SameShapes(const SequenceState& other) const;

 private:
  mutable std::mutex mutex_;
  std::vector<Tensor> tensors_;
  bool whole_ = true;
};

using SequenceStatePtr = std::shared_ptr<SequenceState>;

// The state inputs that follow from `outputs` of one request. Those outputs that are nothing but state are taken out.
// An Internal status names an output that is not what the configuration says.
StatusOr<std::vector<Tensor>> TakeStateOutputs(const ModelSpec& model, std::vector<Tensor>& outputs);

}  // namespace pyinfer
