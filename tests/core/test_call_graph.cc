// SPDX-License-Identifier: Apache-2.0
#include "check.h"
#include "engine/call_graph.h"

namespace pyinfer {
namespace {

// Their addresses are models.
const int a = 0;
const int b = 0;
const int c = 0;

TEST(CallGraph, AModelWithOneInstanceCanNotCallItself) {
  CallGraph graph;
  CHECK(!graph.Enter({&a, 0, 1}, {&a}));
  CHECK(graph.Enter({&a, 0, 1}, {&b}).has_value());
}

TEST(CallGraph, AnInstanceThatIsLeftTakesTheCall) {
  CallGraph graph;
  const auto first = graph.Enter({&a, 0, 2}, {&a});
  CHECK(first.has_value());
  // The one that would execute the first call waits itself now: both would wait for ever.
  CHECK(!graph.Enter({&a, 1, 2}, {&a}));
  graph.Leave(*first);
  CHECK(graph.Enter({&a, 1, 2}, {&a}).has_value());
}

TEST(CallGraph, ARingOfModels) {
  CallGraph graph;
  const auto to_b = graph.Enter({&a, 0, 1}, {&b});
  const auto to_c = graph.Enter({&b, 0, 1}, {&c});
  CHECK(to_b.has_value() && to_c.has_value());
  CHECK(!graph.Enter({&c, 0, 1}, {&a}));
  CHECK(graph.Enter({&c, 0, 2}, {&a}).has_value());  // c has another that can take what b waits for
  graph.Leave(*to_c);
  CHECK(!graph.Enter({&b, 0, 1}, {&a}));
}

TEST(CallGraph, ADeadEndOfOthersIsNotOurs) {
  CallGraph graph;
  CHECK(graph.Enter({&a, 0, 1}, {&b}).has_value());
  CHECK(graph.Enter({&b, 0, 1}, {&c}).has_value());  // c takes it
  CHECK(graph.Enter({&c, 0, 2}, {&b}).has_value());
}

TEST(CallGraph, AllThatAnInstanceWaitsForMustGoOn) {
  CallGraph graph;
  // One task of a's waits for b, which goes on; the other would wait for a itself.
  const auto to_b = graph.Enter({&a, 0, 1}, {&b});
  CHECK(to_b.has_value());
  CHECK(!graph.Enter({&a, 0, 1}, {&a}));
  // Of an ensemble all steps are needed.
  CHECK(!graph.Enter({&b, 0, 1}, {&c, &a}));
  CHECK(graph.Enter({&b, 0, 1}, {&c}).has_value());
}

TEST(CallGraph, EveryInstanceCounts) {
  CallGraph graph;
  CHECK(graph.Enter({&a, 0, 2}, {&b}).has_value());
  CHECK(graph.Enter({&b, 0, 2}, {&a}).has_value());
  CHECK(graph.Enter({&a, 1, 2}, {&b}).has_value());  // b's second instance goes on
  CHECK(!graph.Enter({&b, 1, 2}, {&a}));             // and would be the last
}

// Whoever should merely wait gives way: to itself, to a ring of others like it, and to whoever needs an answer.
TEST(CallGraph, WhoYieldsKeepsNobodyFromGoingOn) {
  CallGraph graph;
  const uint64_t on_itself = graph.EnterYielding(&a, 1, {&a});
  CHECK(graph.ForEver(on_itself));
  graph.Leave(on_itself);
  const uint64_t to_b = graph.EnterYielding(&a, 1, {&b});
  CHECK(!graph.ForEver(to_b));
  CHECK(graph.Enter({&b, 0, 1}, {&a}).has_value());  // not refused, though a waits
  CHECK(graph.ForEver(to_b));
  graph.Leave(to_b);
  const uint64_t first = graph.EnterYielding(&c, 2, {&c});
  CHECK(!graph.ForEver(first));  // it has another instance
  const uint64_t second = graph.EnterYielding(&c, 2, {&c});
  CHECK(graph.ForEver(first) && graph.ForEver(second));
}

}  // namespace
}  // namespace pyinfer
