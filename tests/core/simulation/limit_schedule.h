// SPDX-License-Identifier: Apache-2.0
// limit_schedule.h - one life of several models whose instances share resources, drawn from a seed: requests come, are
// cancelled and run out of time, instances come, execute and go, models are stopped. One thread, one ManualClock.
//
// Beside the rate limiter there is a line that is kept here, in a way that is easy to follow. After each event: whoever
// is first in it, and nobody else, gets a batch; what executes needs no more than there is; an instance that may
// execute, and has something to, does; in the end everything is answered and nothing is held.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "../scheduling.h"
#include "engine/model.h"
#include "event_log.h"
#include "random.h"
#include "sched/rate_limiter.h"

namespace pyinfer::simulation {

class LimitSchedule {
 public:
  // `log`: told of every event; may be nullptr.
  LimitSchedule(uint64_t seed, std::ostream* log);

  void Run();

 private:
  enum class State { kIdle, kWaits, kGranted, kRuns };
  struct Instance {
    size_t model = 0;
    size_t number = 0;
    std::map<std::string, uint64_t> needs;  // by resource; "g": the global one
    uint32_t priority = 1;
    State state = State::kIdle;
    uint64_t executions = 2;  // its loading counts twice
    uint64_t asked = 0;
    bool removed = false;
    bool gone = false;  // out of the line
    std::optional<Batch> batch;
  };

  // Events.
  void Step();
  void Push();
  void Cancel();
  void AddInstance(size_t model);
  void RemoveInstance(Instance& instance);
  void Take(Instance& instance);
  void Finish(Instance& instance);
  void Leave(Instance& instance);
  void Stop(size_t model);
  void Settle();

  // The line.
  uint64_t Total(const std::string& resource) const;
  uint64_t Needed(const std::string& resource, State state) const;
  bool IsRipe(const Instance& instance) const;
  bool IsBefore(const Instance& a, const Instance& b) const;
  void Decide();
  void CheckUses();

  Random random_;
  const std::shared_ptr<ManualClock> clock_;
  const EventLog log_;
  std::map<std::string, uint64_t> limits_;  // what the operator says; empty: nothing
  std::shared_ptr<RateLimiter> limiter_;
  std::vector<std::shared_ptr<Model>> models_;
  std::vector<bool> stopped_;
  std::vector<Instance> instances_;
  std::vector<testing::SinkPtr> sinks_;
  uint64_t places_ = 0;
};

}  // namespace pyinfer::simulation
