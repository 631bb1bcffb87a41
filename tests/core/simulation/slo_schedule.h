// SPDX-License-Identifier: Apache-2.0
// slo_schedule.h - one life of a model with a latency SLO, drawn from a seed: requests with deadlines and priorities
// come and are cancelled, instances take batches and finish them after any time, the model is drained or stopped. One
// thread, one ManualClock.
//
// What it decides depends on what it learned, so it is not foretold; what must hold in any case is checked:
// one answer to each request, with a cause; nothing runs that is due, cancelled or answered; the most urgent goes
// first; batches keep to their limits; who is alone on an idle model goes at once, and whoever waits while an instance
// is free knows until when; nothing is shed or given up while the model is idle.
#pragma once

#include <memory>
#include <optional>
#include <ostream>
#include <vector>

#include "../scheduling.h"
#include "engine/model.h"
#include "event_log.h"
#include "random.h"

namespace pyinfer::simulation {

class SloSchedule {
 public:
  // `log`: told of every event; may be nullptr.
  SloSchedule(uint64_t seed, std::ostream* log);

  void Run();

 private:
  struct Sent {
    testing::SinkPtr sink;
    uint64_t level = 0;
    int64_t rows = 1;
    int64_t width = 1;
    TimeNs due = 0;
    bool running = false;
    bool open = true;
  };
  struct Instance {
    size_t number = 0;
    std::optional<Batch> batch;
    std::vector<size_t> taken;
  };

  void Step();
  void Push();
  void Cancel();
  void Take(Instance& instance);
  void Finish(Instance& instance);
  void Settle();
  // Every request that is neither running nor open has an answer with a cause.
  void CheckAnswers();
  void CheckBatch(const std::vector<size_t>& taken);
  void CheckWait(TimeNs until);
  bool idle() const;
  std::vector<size_t> Waiting() const;

  Random random_;
  const std::shared_ptr<ManualClock> clock_;
  const EventLog log_;
  std::shared_ptr<Model> model_;
  TimeNs slo_ = 0;
  std::vector<Instance> instances_;
  std::vector<Sent> sent_;
  bool closed_ = false;
  bool stopped_ = false;
  uint64_t shed_ = 0;
  uint64_t given_up_ = 0;
};

}  // namespace pyinfer::simulation
