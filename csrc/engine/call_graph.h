// SPDX-License-Identifier: Apache-2.0
// call_graph.h - which models wait for which, so that a call that could never be answered is refused instead of made.
//
// An instance that calls another model takes no batch until it has its answers, and keeps what it holds (the rate
// limiter's resources). A model is stuck where every instance of it waits for stuck models, and where what any of them
// needs to execute is held by those who wait for such; one that keeps the order of its requests, where any instance of
// it waits for such: an answer would be kept until theirs have left. None of them will ever go on: a call that would
// close such a ring is refused. Instances are counted, not requests: a model that has an instance left is taken to go
// on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "sched/rate_limiter.h"

namespace pyinfer {

// Besides those who need an answer there are those who merely should wait, and give way where that would be for ever.
// Who needs an answer is not refused it because of them.
//
// Any thread.
class CallGraph {
 public:
  // Tells models apart and is not looked into.
  using Node = const void*;

  struct Caller {
    Node model = nullptr;
    size_t instance = 0;
    size_t instances = 1;                           // that the model has now
    std::shared_ptr<const LimitedInstance> holder;  // of resources, while it waits; null where it holds none
  };
  struct Callee {
    Node model = nullptr;
    // Its instances; empty where one of them needs nothing to execute.
    std::vector<std::shared_ptr<const LimitedInstance>> limited;
    bool ordered = false;  // its answers leave in the order of its requests
  };

  // Notes that `caller` waits for all of `callees`; nothing where it would wait for ever. Every number that is given
  // out is to be handed to Leave.
  std::optional<uint64_t> Enter(Caller caller, std::vector<Callee> callees);
  // Notes that some instance of `model`, which has so many, should wait for all of `needed`; it is to look at
  // ForEver() now and then. `held`: its resources, while they are there.
  uint64_t EnterYielding(Node model, size_t instances, const std::weak_ptr<const HeldResources>& held,
                         std::vector<Callee> needed);
  // Whether one who yields would wait for ever, as things are.
  bool ForEver(uint64_t wait) const;
  void Leave(uint64_t wait);
  // How many yield now.
  size_t yielding() const;

 private:
  struct Wait {
    Caller caller;
    std::vector<Callee> callees;
    bool yields = false;
    std::weak_ptr<const HeldResources> held;  // of one who yields

    const LimitedInstance* keeps() const { return yields && held.expired() ? nullptr : caller.holder.get(); }
  };

  // Whether `wait`, which is one of them, would be for ever.
  bool ForEverLocked(const Wait& wait, bool with_yielding) const;

  mutable std::mutex mutex_;
  std::map<uint64_t, Wait> waits_;
  uint64_t last_ = 0;
};

}  // namespace pyinfer
