// SPDX-License-Identifier: Apache-2.0
// slo_control.h - what a queue keeps for a model that has a latency SLO: what was learned, what runs, how requests
// come.
//
// Not thread safe: its owner, the queue, has a lock. Time is an argument.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "infer/request.h"
#include "sched/slo_policy.h"

namespace pyinfer {

// A snapshot for metrics.
struct SloReport {
  std::vector<ServiceTimes::Point> learned;
  int64_t best_rows = 0;  // the size with the most rows a second within the SLO
  uint64_t shed = 0;      // requests refused when they came
  uint64_t given_up = 0;  // requests that left the queue as they could not be answered in time
};

class SloControl {
 public:
  explicit SloControl(std::shared_ptr<const ModelSpec> model);

  void AddInstance() { ++instances_; }
  void RemoveInstance() { --instances_; }

  // A request comes; `waiting` and `rows_waiting`: what is before it. Refuses it, or sets from when on it is too late
  // to begin (queue_deadline). Requires: request.queue_deadline is when its answer is due.
  Status Admit(Request& request, size_t waiting);
  // So many rows came into the queue.
  void NotePushed(int64_t rows) { rows_waiting_ += rows; }
  // These left it without being taken, as they were too `late` or for another reason.
  void NoteGone(const std::vector<RequestPtr>& requests, bool late);
  // These left it as a batch, which begins; none where there was no batch.
  void NoteTaken(const std::vector<RequestPtr>& requests, TimeNs now);
  // A batch of `rows` that began at `picked` was over at `now`.
  void NoteExecuted(int64_t rows, TimeNs picked, TimeNs now);

  // `first` and `saturated` of the view are set by the caller.
  SloDecision Decide(SloView view, TimeNs now) const;

  SloReport Report() const;

  static int64_t Rows(const Request& request);

 private:
  struct Running {
    TimeNs picked = 0;
    int64_t rows = 0;
    TimeNs over = 0;  // probably
  };

  void Complete(SloView& view, TimeNs now) const;
  std::vector<int64_t> Tries() const;

  const std::shared_ptr<const ModelSpec> model_;
  const TimeNs slo_;
  ServiceTimes times_;
  std::vector<Running> running_;
  size_t instances_ = 0;
  int64_t rows_waiting_ = 0;
  double interval_ = 0;  // mean time between rows
  TimeNs last_arrival_ = 0;
  uint64_t last_tried_ = 0;
  uint64_t shed_ = 0;
  uint64_t given_up_ = 0;
};

}  // namespace pyinfer
