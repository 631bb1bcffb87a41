// SPDX-License-Identifier: Apache-2.0
// trace_queue.h - finished traces on their way to whoever writes them. Bounded: what does not fit is dropped and
// counted.
//
// Push and Poke: any thread, without waiting. Take: one thread, the consumer.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "infer/trace.h"

namespace pyinfer {

class TraceSetting;

struct CollectedTrace {
  std::shared_ptr<TraceSetting> setting;  // by which it was sampled
  TraceRecord record;
};

class TraceQueue {
 public:
  struct Limits {
    size_t traces = 16384;
    size_t bytes = size_t{64} << 20;
  };
  struct Counts {
    uint64_t collected = 0;  // handed in, those that were dropped as well
    uint64_t dropped = 0;
  };

  TraceQueue() = default;
  explicit TraceQueue(Limits limits) : limits_(limits) {}

  // False where there is no room, or nobody takes traces any more.
  bool Push(CollectedTrace trace);
  // Lets Take return although there may be nothing.
  void Poke();
  // Everything, once there is anything; nothing once the time is up, after Poke(), and (at once) after Close().
  std::vector<CollectedTrace> Take(std::chrono::milliseconds timeout);
  // Later traces are dropped; those that are waiting can still be taken.
  void Close();
  bool closed() const;
  // Counts traces that were lost by the consumer.
  void CountDropped(uint64_t count);
  Counts counts() const;

 private:
  const Limits limits_;
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::vector<CollectedTrace> traces_;
  size_t bytes_ = 0;
  bool poked_ = false;
  bool closed_ = false;
  Counts counts_;
};

}  // namespace pyinfer
