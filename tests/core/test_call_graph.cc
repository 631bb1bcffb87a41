// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "engine/call_graph.h"

namespace pyinfer {
namespace {

class FakeModel final : public CallNode {
 public:
  size_t instances() const override {
    ++asked;
    return count - gone.size();
  }
  bool takes_batches(size_t instance) const override { return gone.count(instance) == 0; }
  std::vector<std::shared_ptr<const LimitedInstance>> Limits() const override { return limited; }

  size_t count = 1;
  mutable size_t asked = 0;  // how often somebody wanted to know
  std::set<size_t> gone;
  std::vector<std::shared_ptr<const LimitedInstance>> limited;
};

using FakePtr = std::shared_ptr<FakeModel>;

FakePtr Fake(std::vector<std::shared_ptr<const LimitedInstance>> limited = {}) {
  auto model = std::make_shared<FakeModel>();
  model->limited = std::move(limited);
  return model;
}

struct FakeCall final : WaitingCall {
  void Refuse() noexcept override { refused = true; }
  bool refused = false;
};

struct Graph : CallGraph {
  static std::vector<Callee> Callees(const std::vector<FakePtr>& models) {
    std::vector<Callee> callees;
    for (const FakePtr& model : models) callees.push_back({model});
    return callees;
  }
  std::optional<uint64_t> Call(const FakePtr& model, size_t instance, size_t instances,
                               const std::vector<FakePtr>& callees) {
    model->count = instances;
    return Enter({model, instance, nullptr}, Callees(callees));
  }
  uint64_t Yield(const FakePtr& model, size_t instances, const std::vector<FakePtr>& needed) {
    model->count = instances;
    return EnterYielding(model, {}, Callees(needed));
  }

  const FakePtr a = Fake(), b = Fake(), c = Fake();
};

TEST(CallGraph, AModelWithOneInstanceCanNotCallItself) {
  Graph graph;
  CHECK(!graph.Call(graph.a, 0, 1, {graph.a}));
  CHECK(graph.Call(graph.a, 0, 1, {graph.b}).has_value());
}

TEST(CallGraph, AnInstanceThatIsLeftTakesTheCall) {
  Graph graph;
  const auto first = graph.Call(graph.a, 0, 2, {graph.a});
  CHECK(first.has_value());
  // The one that would execute the first call waits itself now: both would wait for ever.
  CHECK(!graph.Call(graph.a, 1, 2, {graph.a}));
  graph.Leave(*first);
  CHECK(graph.Call(graph.a, 1, 2, {graph.a}).has_value());
}

TEST(CallGraph, ARingOfModels) {
  Graph graph;
  const auto to_b = graph.Call(graph.a, 0, 1, {graph.b});
  const auto to_c = graph.Call(graph.b, 0, 1, {graph.c});
  CHECK(to_b.has_value() && to_c.has_value());
  CHECK(!graph.Call(graph.c, 0, 1, {graph.a}));
  CHECK(graph.Call(graph.c, 0, 2, {graph.a}).has_value());  // c has another that can take what b waits for
  graph.Leave(*to_c);
  CHECK(!graph.Call(graph.b, 0, 1, {graph.a}));
}

TEST(CallGraph, ADeadEndOfOthersIsNotOurs) {
  Graph graph;
  CHECK(graph.Call(graph.a, 0, 1, {graph.b}).has_value());
  CHECK(graph.Call(graph.b, 0, 1, {graph.c}).has_value());  // c takes it
  CHECK(graph.Call(graph.c, 0, 2, {graph.b}).has_value());
}

TEST(CallGraph, AllThatAnInstanceWaitsForMustGoOn) {
  Graph graph;
  // One task of a's waits for b, which goes on; the other would wait for a itself.
  const auto to_b = graph.Call(graph.a, 0, 1, {graph.b});
  CHECK(to_b.has_value());
  CHECK(!graph.Call(graph.a, 0, 1, {graph.a}));
  // Of an ensemble all steps are needed.
  CHECK(!graph.Call(graph.b, 0, 1, {graph.c, graph.a}));
  CHECK(graph.Call(graph.b, 0, 1, {graph.c}).has_value());
}

TEST(CallGraph, EveryInstanceCounts) {
  Graph graph;
  CHECK(graph.Call(graph.a, 0, 2, {graph.b}).has_value());
  CHECK(graph.Call(graph.b, 0, 2, {graph.a}).has_value());
  CHECK(graph.Call(graph.a, 1, 2, {graph.b}).has_value());  // b's second instance goes on
  CHECK(!graph.Call(graph.b, 1, 2, {graph.a}));             // and would be the last
}

// What an ordered model answers leaves after what was asked before, of whoever waits in it.
TEST(CallGraph, AnAnswerIsKeptUntilThoseBeforeItHaveLeft) {
  Graph graph;
  graph.a->count = graph.b->count = 2;
  CHECK(!graph.Enter({graph.a, 0, nullptr}, {{graph.a, true}}));
  const auto to_b = graph.Enter({graph.a, 0, nullptr}, {{graph.b, true}});
  CHECK(to_b.has_value());
  CHECK(!graph.Enter({graph.b, 0, nullptr}, {{graph.a, true}}));
  CHECK(graph.Enter({graph.c, 0, nullptr}, {{graph.a, true}}).has_value());  // once b has answered, it is its turn
  graph.Leave(*to_b);
  CHECK(graph.Enter({graph.b, 0, nullptr}, {{graph.a, true}}).has_value());
}

// Whoever should merely wait gives way: to itself, to a ring of others like it, and to whoever needs an answer.
TEST(CallGraph, WhoYieldsKeepsNobodyFromGoingOn) {
  Graph graph;
  const uint64_t on_itself = graph.Yield(graph.a, 1, {graph.a});
  CHECK(graph.ForEver(on_itself));
  graph.Leave(on_itself);
  const uint64_t to_b = graph.Yield(graph.a, 1, {graph.b});
  CHECK(!graph.ForEver(to_b));
  CHECK(graph.Call(graph.b, 0, 1, {graph.a}).has_value());  // not refused, though a waits
  CHECK(graph.ForEver(to_b));
  graph.Leave(to_b);
  const uint64_t first = graph.Yield(graph.c, 2, {graph.c});
  CHECK(!graph.ForEver(first));  // it has another instance
  const uint64_t second = graph.Yield(graph.c, 2, {graph.c});
  CHECK(graph.ForEver(first) && graph.ForEver(second));
}

// Instances that share resources, each of a model of its own.
struct Limited {
  explicit Limited(const std::map<std::string, uint64_t>& totals) {
    std::vector<ResourceTotal> all;
    for (const auto& [name, count] : totals) all.push_back({name, count, ResourceTotal::kEveryDevice});
    limiter = std::make_shared<RateLimiter>(all);
  }
  std::shared_ptr<LimitedInstance> Add(const std::map<std::string, uint64_t>& needs) {
    InstanceLimits limits;
    for (const auto& [name, count] : needs) limits.resources.push_back({name, false, count});
    return limiter->Enter(limits).value();
  }
  static std::shared_ptr<HeldResources> Execute(LimitedInstance& instance) {
    CHECK(instance.Ask([] { return true; }));
    return instance.Hold();
  }

  std::shared_ptr<RateLimiter> limiter;
};

TEST(CallGraph, WhatIsHeldIsNotThereForOthers) {
  Limited limited({{"r", 2}});
  const auto of_a = limited.Add({{"r", 2}}), of_b = limited.Add({{"r", 1}});
  Graph graph;
  auto held = Limited::Execute(*of_a);
  CHECK(!graph.Enter({graph.a, 0, of_a}, {{Fake({of_b})}}));
  CHECK(graph.Enter({graph.a, 0, of_a}, {{graph.b}}).has_value());  // b has an instance that needs nothing
  const uint64_t yields = graph.EnterYielding(graph.a, held, {{Fake({of_b})}});
  CHECK(graph.ForEver(yields));
  held.reset();  // its batch is executed; it goes on making responses
  CHECK(!graph.ForEver(yields));
}

TEST(CallGraph, WhatIsLeftSuffices) {
  Limited limited({{"r", 3}});
  const auto of_a = limited.Add({{"r", 2}}), of_b = limited.Add({{"r", 1}}), large = limited.Add({{"r", 2}});
  Graph graph;
  const auto held = Limited::Execute(*of_a);
  const uint64_t yields = graph.EnterYielding(graph.a, held, {{Fake({of_b})}});
  CHECK(!graph.ForEver(yields));
  // Another one executes: it comes to an end, and b's turn comes.
  auto executing = Limited::Execute(*of_b);
  CHECK(!graph.ForEver(yields));
  executing.reset();
  // Somebody else is before b, and claims what there is until a is done.
  CHECK(!large->Ask([] { return true; }));
  CHECK(graph.ForEver(yields));
}

// Each has what the other one's next step needs.
TEST(CallGraph, ARingOfWhatIsHeld) {
  Limited limited({{"r", 1}, {"q", 1}});
  const auto of_a = limited.Add({{"r", 1}}), of_b = limited.Add({{"q", 1}});
  const auto needs_r = limited.Add({{"r", 1}}), needs_q = limited.Add({{"q", 1}});
  Graph graph;
  const auto held_by_a = Limited::Execute(*of_a), held_by_b = Limited::Execute(*of_b);
  const uint64_t first = graph.EnterYielding(graph.a, held_by_a, {{Fake({needs_q})}});
  CHECK(!graph.ForEver(first));
  const uint64_t second = graph.EnterYielding(graph.b, held_by_b, {{Fake({needs_r})}});
  CHECK(graph.ForEver(first) && graph.ForEver(second));
  graph.Leave(second);
  CHECK(!graph.ForEver(first));
}

// An update in place removes an instance that waits: whoever is left takes what comes.
TEST(CallGraph, WhoIsRemovedWhileItWaitsCountsNoMore) {
  Graph graph;
  CHECK(graph.Call(graph.a, 1, 2, {graph.b}).has_value());
  graph.a->gone = {1};
  CHECK(graph.Call(graph.b, 0, 1, {graph.a}).has_value());
  // Where answers leave in order, its request is before those that come.
  CHECK(!graph.Enter({graph.b, 0, nullptr}, {{graph.a, true}}));
}

TEST(CallGraph, InstancesCountAsTheyAreNow) {
  Graph graph;
  CHECK(graph.Call(graph.a, 0, 2, {graph.b}).has_value());
  graph.a->gone = {1};
  CHECK(!graph.Call(graph.b, 0, 1, {graph.a}));
  graph.a->count = 3;
  CHECK(graph.Call(graph.b, 0, 1, {graph.a}).has_value());
  // So do their needs.
  Limited limited({{"r", 2}});
  const auto of_c = limited.Add({{"r", 2}}), needs_r = limited.Add({{"r", 1}});
  const FakePtr other = Fake({needs_r});
  const auto held = Limited::Execute(*of_c);
  CHECK(!graph.Enter({graph.c, 0, of_c}, {{other}}));
  const uint64_t yields = graph.EnterYielding(graph.c, held, {{other}});
  CHECK(graph.ForEver(yields));
  other->limited.clear();
  CHECK(!graph.ForEver(yields));
}

TEST(CallGraph, ARingThatIsClosedByWhoGoesLosesItsLatestCall) {
  Graph graph;
  graph.a->count = 2;
  const auto first = std::make_shared<FakeCall>(), second = std::make_shared<FakeCall>(),
             beside = std::make_shared<FakeCall>();
  CHECK(graph.Enter({graph.a, 0, nullptr, first}, {{graph.b}}).has_value());
  CHECK(graph.Enter({graph.b, 0, nullptr, second}, {{graph.a}}).has_value());
  CHECK(graph.Enter({graph.c, 0, nullptr, beside}, {{graph.b}}).has_value());
  graph.Yield(graph.c, 2, {graph.a});
  graph.Reconsider();
  CHECK(!first->refused && !second->refused && !beside->refused);
  graph.a->gone = {1};
  graph.Reconsider();
  CHECK(!first->refused && second->refused && !beside->refused);
}

// Calls wait for its lock: what they all wait for is found once, not once for each.
TEST(CallGraph, ManyWhoWaitAreLookedAtTogether) {
  constexpr size_t kCallers = 1000;
  Graph graph;
  CHECK(graph.Call(graph.b, 0, 1, {graph.c}).has_value());
  for (size_t instance = 0; instance < kCallers; ++instance) {
    CHECK(graph.Call(graph.a, instance, kCallers, {graph.b}).has_value());
  }
  graph.b->asked = 0;
  graph.Reconsider();
  CHECK(graph.b->asked <= 3 * kCallers);
}

}  // namespace
}  // namespace pyinfer
