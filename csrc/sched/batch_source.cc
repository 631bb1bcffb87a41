// SPDX-License-Identifier: Apache-2.0
#include "sched/batch_source.h"

#include <utility>

#include "sched/dynamic_source.h"
#include "sched/sequence_source.h"

namespace pyinfer {

std::unique_ptr<BatchSource> MakeBatchSource(std::shared_ptr<const ModelSpec> model, const Clock& clock,
                                             std::weak_ptr<ExecutionObserver> observer) {
  if (model->sequence) return std::make_unique<SequenceSource>(std::move(model), clock, std::move(observer));
  return std::make_unique<DynamicSource>(std::move(model), clock, std::move(observer));
}

}  // namespace pyinfer
