// SPDX-License-Identifier: Apache-2.0
#include "worker/lanes.h"

#include <utility>

namespace pyinfer {

StatusOr<WorkerLanes> WorkerLanes::Create() {
  WorkerLanes lanes;
  for (LaneMemoryPtr* lane : {&lanes.requests, &lanes.answers, &lanes.calls, &lanes.responses}) {
    StatusOr<LaneMemoryPtr> memory = LaneMemory::Create();
    if (!memory.ok()) return memory.status();
    *lane = std::move(memory).value();
  }
  return {std::move(lanes)};
}

}  // namespace pyinfer
