// SPDX-License-Identifier: Apache-2.0
// graph_schedule.h - one life of an engine, drawn from a seed: an ensemble over a random graph of models, and clients
// of the ensemble and of its models. Batches finish in any order, some with failures; requests are cancelled and run
// out of time; models are replaced while they are used. One thread, one ManualClock.
//
// Checked: one answer to each request; the answer is the value of the graph, or an error that has a cause, as soon as
// there is one; nothing of a request runs after it was answered, cancelled or expired; max_inflight_requests, also of
// what waits between two steps; wherever no model has anything to do, every request is answered.
#pragma once

#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "../ensembles.h"
#include "event_log.h"
#include "random.h"

namespace pyinfer::simulation {

class GraphSchedule {
 public:
  // `log`: told of every event; may be nullptr.
  GraphSchedule(uint64_t seed, std::ostream* log);

  void Run();

 private:
  struct Root {
    testing::SinkPtr sink;
    int step = -1;      // a request to the model of one step; -1: to the ensemble
    int32_t value = 0;  // what it is to be answered
    bool failed = false;
    // Of a request to one step's model, while it is in the queue.
    bool queued = false;
    int64_t deadline = 0;  // 0: none
  };
  // A version of a step's model, and the batch that its one instance executes.
  struct Worker {
    size_t step = 0;
    std::shared_ptr<Model> model;
    std::optional<Batch> batch;
  };

  ModelSpec Part(size_t step) const;
  void DrawGraph();
  void Replace(size_t step);
  void Step();
  void Ask(int step);
  void Cancel();
  void Take(Worker& worker);
  void Finish(Worker& worker);
  void Settle();
  void CheckStep();
  // A tensor of the graph for the input X = `x`: 0 is X, i + 1 the output of step i.
  int32_t Value(size_t tensor, int32_t x) const;
  size_t Index(const Request& request) const { return static_cast<size_t>(std::stoi(request.id)); }

  Random random_;
  testing::Works works_;
  const EventLog log_;
  std::vector<std::vector<size_t>> inputs_;  // of each step: tensors of the graph
  std::vector<size_t> done_;                 // of each step: requests of ensembles that its model has answered
  std::vector<ModelSpec> parts_;
  size_t max_inflight_ = 0;
  bool timeouts_ = false;
  bool abandoned_ = false;  // some request was answered while its steps were under way
  std::shared_ptr<Model> ensemble_;
  std::vector<Worker> workers_;
  std::vector<Root> roots_;
};

}  // namespace pyinfer::simulation
