// SPDX-License-Identifier: Apache-2.0
// trace_setting.h - which requests are traced, and what of them. A change makes a new setting: traces that have begun
// keep theirs.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "engine/trace_queue.h"

namespace pyinfer {

// What an operator sets, for all models or for one.
struct TraceOptions {
  uint32_t levels = 0;         // kTraceTimestamps, kTraceTensors; 0: nothing is traced
  uint32_t rate = 1000;        // one of so many requests; 0: only those whose client traces them
  int32_t count = -1;          // traces that may still be sampled; -1: any number
  uint32_t log_frequency = 0;  // traces in one file; 0: one file for all
};

// Any thread.
class TraceSetting final : public TraceCollector, public std::enable_shared_from_this<TraceSetting> {
 public:
  TraceSetting(const TraceOptions& options, const std::shared_ptr<TraceQueue>& queue)
      : options_(options), queue_(queue), left_(options.count) {}

  // As it was set.
  const TraceOptions& options() const { return options_; }
  // Traces that may still be sampled; -1: any number.
  int32_t left() const { return left_.load(std::memory_order_relaxed); }
  // Traces that could not be queued, or that ended when nobody took them any more.
  uint32_t dropped() const { return dropped_.load(std::memory_order_acquire); }

  // Counts one more request: is it traced? `forced`: its client traces it, which is reason enough.
  bool Sample(bool forced) noexcept;

  void Collect(TraceRecord record) noexcept override;

 private:
  const TraceOptions options_;
  // Not owned: what waits in the queue owns its setting.
  const std::weak_ptr<TraceQueue> queue_;
  std::atomic<int32_t> left_;
  std::atomic<uint64_t> seen_{0};
  std::atomic<uint32_t> dropped_{0};
};

}  // namespace pyinfer
