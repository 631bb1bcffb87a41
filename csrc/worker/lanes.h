// SPDX-License-Identifier: Apache-2.0
// lanes.h - all the memory that a server and one worker process share.
#pragma once

#include "worker/lane.h"

namespace pyinfer {

struct WorkerLanes {
  LaneMemoryPtr requests;   // server -> worker: batches
  LaneMemoryPtr answers;    // worker -> server: to those
  LaneMemoryPtr calls;      // worker -> server: that the worker's model makes of others
  LaneMemoryPtr responses;  // server -> worker: to those

  static StatusOr<WorkerLanes> Create();
};

}  // namespace pyinfer
