// SPDX-License-Identifier: Apache-2.0
#include "sched/batch_source.h"

#include <utility>

#include "sched/dynamic_source.h"
#include "sched/sequence_source.h"
#include "sched/split_source.h"

namespace pyinfer {

std::unique_ptr<BatchSource> MakeBatchSource(std::shared_ptr<const ModelSpec> model, const Clock& clock,
                                             std::weak_ptr<ExecutionObserver> observer) {
  if (model->sequence) return std::make_unique<SequenceSource>(std::move(model), clock, std::move(observer));
  auto source = std::make_unique<DynamicSource>(model, clock, std::move(observer));
  if (!model->split_large) return source;
  return std::make_unique<SplitSource>(std::move(source), std::move(model));
}

}  // namespace pyinfer
