// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "check.h"
#include "engine/call_graph.h"

namespace pyinfer {
namespace {

// Their addresses are models.
const int a = 0;
const int b = 0;
const int c = 0;

struct Graph : CallGraph {
  static std::vector<Callee> Callees(const std::vector<Node>& models) {
    std::vector<Callee> callees;
    for (const Node model : models) callees.push_back({model, {}});
    return callees;
  }
  std::optional<uint64_t> Call(Node model, size_t instance, size_t instances, const std::vector<Node>& callees) {
    return Enter({model, instance, instances, nullptr}, Callees(callees));
  }
  uint64_t Yield(Node model, size_t instances, const std::vector<Node>& needed) {
    return EnterYielding(model, instances, {}, Callees(needed));
  }
};

TEST(CallGraph, AModelWithOneInstanceCanNotCallItself) {
  Graph graph;
  CHECK(!graph.Call(&a, 0, 1, {&a}));
  CHECK(graph.Call(&a, 0, 1, {&b}).has_value());
}

TEST(CallGraph, AnInstanceThatIsLeftTakesTheCall) {
  Graph graph;
  const auto first = graph.Call(&a, 0, 2, {&a});
  CHECK(first.has_value());
  // The one that would execute the first call waits itself now: both would wait for ever.
  CHECK(!graph.Call(&a, 1, 2, {&a}));
  graph.Leave(*first);
  CHECK(graph.Call(&a, 1, 2, {&a}).has_value());
}

TEST(CallGraph, ARingOfModels) {
  Graph graph;
  const auto to_b = graph.Call(&a, 0, 1, {&b});
  const auto to_c = graph.Call(&b, 0, 1, {&c});
  CHECK(to_b.has_value() && to_c.has_value());
  CHECK(!graph.Call(&c, 0, 1, {&a}));
  CHECK(graph.Call(&c, 0, 2, {&a}).has_value());  // c has another that can take what b waits for
  graph.Leave(*to_c);
  CHECK(!graph.Call(&b, 0, 1, {&a}));
}

TEST(CallGraph, ADeadEndOfOthersIsNotOurs) {
  Graph graph;
  CHECK(graph.Call(&a, 0, 1, {&b}).has_value());
  CHECK(graph.Call(&b, 0, 1, {&c}).has_value());  // c takes it
  CHECK(graph.Call(&c, 0, 2, {&b}).has_value());
}

TEST(CallGraph, AllThatAnInstanceWaitsForMustGoOn) {
  Graph graph;
  // One task of a's waits for b, which goes on; the other would wait for a itself.
  const auto to_b = graph.Call(&a, 0, 1, {&b});
  CHECK(to_b.has_value());
  CHECK(!graph.Call(&a, 0, 1, {&a}));
  // Of an ensemble all steps are needed.
  CHECK(!graph.Call(&b, 0, 1, {&c, &a}));
  CHECK(graph.Call(&b, 0, 1, {&c}).has_value());
}

TEST(CallGraph, EveryInstanceCounts) {
  Graph graph;
  CHECK(graph.Call(&a, 0, 2, {&b}).has_value());
  CHECK(graph.Call(&b, 0, 2, {&a}).has_value());
  CHECK(graph.Call(&a, 1, 2, {&b}).has_value());  // b's second instance goes on
  CHECK(!graph.Call(&b, 1, 2, {&a}));             // and would be the last
}

// What an ordered model answers leaves after what was asked before, of whoever waits in it.
TEST(CallGraph, AnAnswerIsKeptUntilThoseBeforeItHaveLeft) {
  Graph graph;
  CHECK(!graph.Enter({&a, 0, 2, nullptr}, {{&a, {}, true}}));
  const auto to_b = graph.Enter({&a, 0, 2, nullptr}, {{&b, {}, true}});
  CHECK(to_b.has_value());
  CHECK(!graph.Enter({&b, 0, 2, nullptr}, {{&a, {}, true}}));
  CHECK(graph.Enter({&c, 0, 1, nullptr}, {{&a, {}, true}}).has_value());  // once b has answered, it is its turn
  graph.Leave(*to_b);
  CHECK(graph.Enter({&b, 0, 2, nullptr}, {{&a, {}, true}}).has_value());
}

// Whoever should merely wait gives way: to itself, to a ring of others like it, and to whoever needs an answer.
TEST(CallGraph, WhoYieldsKeepsNobodyFromGoingOn) {
  Graph graph;
  const uint64_t on_itself = graph.Yield(&a, 1, {&a});
  CHECK(graph.ForEver(on_itself));
  graph.Leave(on_itself);
  const uint64_t to_b = graph.Yield(&a, 1, {&b});
  CHECK(!graph.ForEver(to_b));
  CHECK(graph.Call(&b, 0, 1, {&a}).has_value());  // not refused, though a waits
  CHECK(graph.ForEver(to_b));
  graph.Leave(to_b);
  const uint64_t first = graph.Yield(&c, 2, {&c});
  CHECK(!graph.ForEver(first));  // it has another instance
  const uint64_t second = graph.Yield(&c, 2, {&c});
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
  CHECK(!graph.Enter({&a, 0, 1, of_a}, {{&b, {of_b}}}));
  CHECK(graph.Enter({&a, 0, 1, of_a}, {{&b, {}}}).has_value());  // b has an instance that needs nothing
  const uint64_t yields = graph.EnterYielding(&a, 1, held, {{&b, {of_b}}});
  CHECK(graph.ForEver(yields));
  held.reset();  // its batch is executed; it goes on making responses
  CHECK(!graph.ForEver(yields));
}

TEST(CallGraph, WhatIsLeftSuffices) {
  Limited limited({{"r", 3}});
  const auto of_a = limited.Add({{"r", 2}}), of_b = limited.Add({{"r", 1}}), large = limited.Add({{"r", 2}});
  Graph graph;
  const auto held = Limited::Execute(*of_a);
  const uint64_t yields = graph.EnterYielding(&a, 1, held, {{&b, {of_b}}});
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
  const int needing_r = 0, needing_q = 0;
  Graph graph;
  const auto held_by_a = Limited::Execute(*of_a), held_by_b = Limited::Execute(*of_b);
  const uint64_t first = graph.EnterYielding(&a, 1, held_by_a, {{&needing_q, {needs_q}}});
  CHECK(!graph.ForEver(first));
  const uint64_t second = graph.EnterYielding(&b, 1, held_by_b, {{&needing_r, {needs_r}}});
  CHECK(graph.ForEver(first) && graph.ForEver(second));
  graph.Leave(second);
  CHECK(!graph.ForEver(first));
}

}  // namespace
}  // namespace pyinfer
