// SPDX-License-Identifier: Apache-2.0
// timeline.h - when a request passed each stage. Statistics, metrics and traces are all read from it.
#pragma once

#include "base/clock.h"

namespace pyinfer {

// Times of the engine's clock; 0 where the stage was not reached.
struct Timeline {
  TimeNs received = 0;        // its first byte was understood by a protocol
  TimeNs queued = 0;          // accepted by the model's queue
  TimeNs picked = 0;          // taken into a batch by an instance
  TimeNs packed = 0;          // inputs are ready for the executor
  TimeNs executed = 0;        // the executor has returned
  TimeNs split = 0;           // outputs are cut into responses
  TimeNs first_response = 0;  // the first of its own responses was sent; 0 where it was answered with its batch
};

}  // namespace pyinfer
