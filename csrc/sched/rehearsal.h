// SPDX-License-Identifier: Apache-2.0
// rehearsal.h - a batch that no client asked for, to warm an instance up. It is counted nowhere.
//
// Source of the rules: Triton's model warm-up.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "sched/batch.h"

namespace pyinfer {

class Rehearsal {
 public:
  // `size` requests, each of them with `inputs` (one row, where the model has a batch dimension). For a model of
  // sequences, each is a whole one: controls and states are added, unless they are among `inputs`.
  // An error where a model would not accept such a request. `clock` must outlive the batch.
  static StatusOr<Rehearsal> Make(const std::shared_ptr<const ModelSpec>& model, const Clock& clock,
                                  const std::vector<Tensor>& inputs, size_t size);

  // To be executed and finished.
  Batch TakeBatch() { return std::move(batch_); }
  // The first error that a request was answered with. Requires: the batch is finished.
  Status result() const;

 private:
  class Sink;

  std::shared_ptr<Sink> sink_;
  Batch batch_;
};

}  // namespace pyinfer
