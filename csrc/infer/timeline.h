// SPDX-License-Identifier: Apache-2.0
// timeline.h - when a request passed each stage. Statistics, metrics and traces are all read from it.
#pragma once

#include "base/clock.h"

namespace pyinfer {

// Times of the engine's clock; 0 where the stage was not reached. The stages marked (traced) are noted only for
// requests that are traced: nothing else asks for them.
struct Timeline {
  TimeNs receiving = 0;       // its first byte was understood by a protocol
  TimeNs received = 0;        // all of it had come
  TimeNs started = 0;         // read and found valid (traced)
  TimeNs queued = 0;          // accepted by the model's queue
  TimeNs picked = 0;          // taken into a batch by an instance
  TimeNs packed = 0;          // inputs are ready for the executor
  TimeNs executed = 0;        // the executor has returned
  TimeNs split = 0;           // outputs are cut into responses
  TimeNs first_response = 0;  // the first of its own responses was sent; 0 where it was answered with its batch
  TimeNs answered = 0;        // the last response went to the protocol (traced)
};

}  // namespace pyinfer
