// SPDX-License-Identifier: Apache-2.0
// call_graph.h - which models wait for which, so that a call that could never be answered is refused instead of made.
//
// An instance that calls another model takes no batch until it has its answers. Where every instance of a model waits
// for models of which every instance waits in turn, none of them will ever go on: a call that would close such a ring
// is refused. Instances are counted, not requests: a model that has an instance left is taken to go on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

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
    size_t instances = 1;  // that the model has now
  };

  // Notes that `caller` waits for all of `callees`; nothing where it would wait for ever. Every number that is given
  // out is to be handed to Leave.
  std::optional<uint64_t> Enter(const Caller& caller, std::vector<Node> callees);
  // Notes that some instance of `model`, which has so many, should wait for all of `needed`; it is to look at
  // ForEver() now and then.
  uint64_t EnterYielding(Node model, size_t instances, std::vector<Node> needed);
  // Whether one who yields would wait for ever, as things are.
  bool ForEver(uint64_t wait) const;
  void Leave(uint64_t wait);
  // How many yield now.
  size_t yielding() const;

 private:
  struct Wait {
    Caller caller;
    std::vector<Node> callees;
    bool yields = false;
  };

  static bool NeedsOneOf(const std::set<Node>& models, const Wait& wait);
  // Models of which every instance waits for one of them.
  std::set<Node> StuckLocked(bool with_yielding) const;

  mutable std::mutex mutex_;
  std::map<uint64_t, Wait> waits_;
  uint64_t last_ = 0;
};

}  // namespace pyinfer
