// SPDX-License-Identifier: Apache-2.0
// policy.h - when is a batch ripe, and how much of the queue does it take?
//
// A pure function: no clock, no lock, no state.
//
// Source of the rules: Triton's dynamic batcher. With a view of the requests that may run together, in order:
//   1. If the oldest has waited max_queue_delay, take all that fit.
//   2. Otherwise, if a prefix adds up to exactly a preferred size, take the longest such prefix.
//   3. Otherwise, if there is no delay, or the batch can not grow, take all that fit.
//   4. Otherwise wait until the oldest has waited max_queue_delay.
#pragma once

#include <vector>

#include "base/clock.h"
#include "infer/model_spec.h"

namespace pyinfer {

// The head of a queue: the requests that may form one batch.
struct QueueView {
  std::vector<int64_t>
      rows;                // of each request, in queue order; together at most max_batch_size, except for a lone first
  bool saturated = false;  // no request that may come could be added: the next one does not fit, or nothing more fits
  TimeNs oldest = 0;       // when the first one was queued
  size_t looked_at = 0;    // requests of the queue, those that can not be added among them
  std::vector<size_t> places =
      {};  // of each request in the queue, where others were passed over; else they are its first
};

struct Decision {
  enum class Kind { kIdle, kTake, kWaitUntil };
  Kind kind = Kind::kIdle;
  size_t requests = 0;  // kTake: how many from the head
  size_t drop = 0;      // kTake: how many before those are given up; only of a model with a latency SLO
  TimeNs until = 0;     // kWaitUntil

  static Decision Take(size_t requests, size_t drop = 0) { return {Kind::kTake, requests, drop, 0}; }
  static Decision WaitUntil(TimeNs until) { return {Kind::kWaitUntil, 0, 0, until}; }
};

Decision Decide(const QueueView& view, TimeNs now, const BatchOptions& options);

}  // namespace pyinfer
