// SPDX-License-Identifier: Apache-2.0
// producer_schedule.h - one life of an ensemble whose first step is decoupled and whose steps are limited, drawn from a
// seed: instances that may share resources, producers that hold them or not while they make responses, clients that
// cancel. One thread, one ManualClock.
//
// Checked: max_inflight_requests; what a producer has made beyond what was let in is one response, where it can not be
// that it would wait for ever; and whatever waits for whatever, all requests are answered in the end.
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

class ProducerSchedule {
 public:
  // `log`: told of every event; may be nullptr.
  ProducerSchedule(uint64_t seed, std::ostream* log);

  void Run();

 private:
  struct Worker {
    std::shared_ptr<Model> model;
    size_t number = 0;
    std::optional<Batch> batch;
    size_t producing = 0;  // requests of that batch for which responses are made while it is executed
  };
  // A request of which responses are being made.
  struct Producing {
    std::shared_ptr<Responder> responder;
    size_t left = 0;
    Worker* within = nullptr;  // whose batch is executed until this is done
    std::unique_ptr<RoomWait> wait;
  };

  void AddModel(const std::string& name, bool decoupled);
  void Step();
  void Ask();
  void Cancel();
  void Take(Worker& worker);
  void Finish(Worker& worker);
  void Respond(size_t which);
  void CheckStep();
  void Settle();

  Random random_;
  testing::Works works_;
  const EventLog log_;
  std::shared_ptr<RateLimiter> limiter_;
  uint64_t resources_ = 0;
  size_t limit_ = 0;
  bool to_itself_ = false;  // the last step is the producer's model
  bool abandoned_ = false;
  size_t sent_ = 0;      // responses by the first step
  size_t executed_ = 0;  // requests by the second
  std::vector<std::string> behind_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Producing> producing_;
  std::vector<testing::SinkPtr> roots_;
};

}  // namespace pyinfer::simulation
