// SPDX-License-Identifier: Apache-2.0
// call_graph.h - which models wait for which, so that a call that could never be answered is refused instead of made.
//
// An instance that calls another model takes no batch until it has its answers, and keeps what it holds (the rate
// limiter's resources). A model is stuck where every instance of it waits for stuck models, and where what any of them
// needs to execute is held by those who wait for such; one that keeps its requests' order, or sequences, where any of
// its instances waits for such: it may be the one whose turn, or place, it is. None will ever go on: a call that would
// close such a ring is refused, and so is one that is in a ring that instances close by going. Instances are counted,
// not requests: a model that has an instance left is taken to go on. Those count that take batches now: an update in
// place may remove one while it waits.
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

// A model, as the graph sees it. Any thread; asked with the graph's lock held.
class CallNode {
 public:
  virtual ~CallNode() = default;
  // Instances that take batches.
  virtual size_t instances() const = 0;
  // Whether that one does, or did until it began to wait.
  virtual bool takes_batches(size_t instance) const = 0;
  // What those need to hold while they execute; empty where one of them needs nothing.
  virtual std::vector<std::shared_ptr<const LimitedInstance>> Limits() const = 0;
};

// A call that is waited for.
class WaitingCall {
 public:
  virtual ~WaitingCall() = default;
  // It would be for ever. Any thread, without locks held.
  virtual void Refuse() noexcept = 0;
};

// Besides those who need an answer there are those who merely should wait, and give way where that would be for ever.
// Who needs an answer is not refused it because of them.
//
// Any thread.
class CallGraph {
 public:
  using NodePtr = std::shared_ptr<const CallNode>;

  struct Caller {
    NodePtr model;
    size_t instance = 0;
    std::shared_ptr<const LimitedInstance> holder;  // of resources, while it waits; null where it holds none
    std::weak_ptr<WaitingCall> call = {};
  };
  struct Callee {
    NodePtr model;
    bool ordered = false;  // its answers leave in the order of its requests, or these have places at instances
  };

  // Notes that `caller` waits for all of `callees`; nothing where it would wait for ever. Every number that is given
  // out is to be handed to Leave.
  std::optional<uint64_t> Enter(Caller caller, std::vector<Callee> callees);
  // Notes that some instance of `model` should wait for all of `needed`; it is to look at ForEver() now and then.
  // `held`: its resources, while they are there.
  uint64_t EnterYielding(NodePtr model, const std::weak_ptr<const HeldResources>& held, std::vector<Callee> needed);
  // To be called when instances have gone: refuses calls, the latest first, until the others do not wait for ever.
  void Reconsider();
  // Whether one who yields would wait for ever, as things are.
  bool ForEver(uint64_t wait) const;
  void Leave(uint64_t wait);
  // How many yield now.
  size_t yielding() const;

 private:
  struct Wait {
    Caller caller;
    std::vector<Callee> callees;
    bool yields = false;                      // then it is not known which instance it is
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
