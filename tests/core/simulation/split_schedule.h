// SPDX-License-Identifier: Apache-2.0
// split_schedule.h - one life of a model that executes large requests in parts, drawn from a seed: requests of any size
// come, are cancelled, are refused and run out of time; batches end in any order, some with failures. One thread, one
// ManualClock.
//
// Checked after each event: one answer to each request; it has all rows in order, or an error that has a cause, as soon
// as there is one; no batch is too large, and each row is executed once; nothing of a request waits or is taken once it
// is answered; what is counted is true.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <vector>

#include "../scheduling.h"
#include "engine/model.h"
#include "event_log.h"
#include "random.h"

namespace pyinfer::simulation {

class SplitSchedule {
 public:
  // `log`: told of every event; may be nullptr.
  SplitSchedule(uint64_t seed, std::ostream* log);

  void Run();

 private:
  struct Sent {
    testing::SinkPtr sink;
    int64_t rows = 0;
    uint64_t priority = 0;
    int64_t deadline = 0;  // 0: none
    int64_t taken = 0;     // rows
    bool failed = false;   // some part has
  };

  void Step();
  void Push();
  void Cancel();
  void Advance();
  void Take(size_t instance);
  void Finish(size_t instance);
  void Settle();
  void CheckStep();
  Sent& Of(const Request& request) { return sent_[static_cast<size_t>(std::stoi(request.id))]; }

  Random random_;
  const std::shared_ptr<ManualClock> clock_;
  const EventLog log_;
  std::shared_ptr<Model> model_;
  std::vector<Sent> sent_;
  std::map<size_t, std::optional<Batch>> running_;  // by instance
  uint64_t executions_ = 0;
};

}  // namespace pyinfer::simulation
