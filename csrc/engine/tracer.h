// SPDX-License-Identifier: Apache-2.0
// tracer.h - begins traces: settings of all models and of one, sampling, ids. Any thread.
//
// Whoever resolves what an operator set hands in one complete setting for each name. While nothing is traced a request
// costs one relaxed load.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <string>
#include <unordered_map>

#include "engine/trace_queue.h"
#include "engine/trace_setting.h"
#include "infer/request.h"

namespace pyinfer {

class Tracer {
 public:
  explicit Tracer(std::shared_ptr<const Clock> clock, TraceQueue::Limits limits = {});

  const std::shared_ptr<TraceQueue>& queue() const { return queue_; }

  // Sets what holds for the requests of `model`, or ("") of all that have no setting of their own. Counts from anew.
  void Set(const std::string& model, const TraceOptions& options);
  // The setting of all holds for `model` again.
  void Clear(const std::string& model);
  // What Set was given, less the traces that were sampled since; that of all where `model` has none of its own.
  TraceOptions Get(const std::string& model) const;

  // Honour the trace that a client says its request belongs to, and give traces the ids that OpenTelemetry needs.
  // Before the first request.
  void EnableSpans() { spans_ = true; }

  bool enabled() const noexcept { return enabled_.load(std::memory_order_relaxed); }
  // Samples a request that was found valid; one that is traced gets its trace. Requires: it has a model.
  void Begin(Request& request) noexcept;
  // Gives a request that is a step of an ensemble a trace below that of the ensemble's request, which is sampled.
  void BeginStep(Request& request, const Trace& parent) noexcept;

 private:
  std::shared_ptr<TraceSetting> Find(const std::string& model) const;
  void NoteEnabledLocked();
  // The trace of `request`, as `record` has begun it.
  void Attach(Request& request, TraceRecord record, std::shared_ptr<TraceCollector> collector);
  void NameSpans(const Request& request, TraceSpans& spans, const TraceParent* parent);
  uint64_t RandomId();

  const std::shared_ptr<const Clock> clock_;
  const std::shared_ptr<TraceQueue> queue_;
  bool spans_ = false;
  std::atomic<bool> enabled_{false};
  std::atomic<uint64_t> last_id_{0};
  std::atomic<uint64_t> random_;

  mutable std::shared_mutex mutex_;
  std::shared_ptr<TraceSetting> global_;
  std::unordered_map<std::string, std::shared_ptr<TraceSetting>> models_;
};

}  // namespace pyinfer
