// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "sched/resources.h"

namespace pyinfer {
namespace {

using Numbers = std::vector<size_t>;

InstanceLimits Needs(std::vector<ResourceNeed> resources, uint32_t priority = 1, int64_t device = 0) {
  return {std::move(resources), priority, device};
}

size_t Enter(ResourceLedger& ledger, InstanceLimits limits) {
  const StatusOr<size_t> holder = ledger.Enter(limits);
  CHECK_EQ(holder.status().message(), "");
  return holder.value();
}

std::string Refusal(ResourceLedger& ledger, InstanceLimits limits) {
  const StatusOr<size_t> holder = ledger.Enter(limits);
  CHECK(!holder.ok() && holder.status().code() == Code::kInvalidArg);
  return holder.status().message();
}

Numbers Grant(ResourceLedger& ledger) {
  const ResourceLedger::Changes changes = ledger.Grant([](size_t) { return true; });
  CHECK(changes.withdrawn.empty());
  return changes.granted;
}

Numbers AskAll(ResourceLedger& ledger, const Numbers& holders) {
  for (const size_t holder : holders) ledger.Ask(holder);
  return Grant(ledger);
}

std::string Short(const std::string& name, const std::string& limit, const std::string& need) {
  return "Resource count for \"" + name + "\" is limited to " + limit +
         " which will prevent scheduling of one or more model instances, the minimum required count is " + need;
}

TEST(Resources, ThereIsWhatOneInstanceNeedsMost) {
  ResourceLedger ledger;
  const size_t small = Enter(ledger, Needs({{"R", false, 1}}));
  const size_t other = Enter(ledger, Needs({{"R", false, 1}}));
  CHECK_EQ(AskAll(ledger, {small, other}).size(), size_t{1});
  // Two fit now, but not three.
  const size_t large = Enter(ledger, Needs({{"R", false, 2}}));
  CHECK(Grant(ledger) == Numbers({other}));
  CHECK_EQ(ledger.uses().at({"r", 0}).total, uint64_t{2});
  CHECK(AskAll(ledger, {large}).empty());
  ledger.Leave(large);
  CHECK_EQ(ledger.uses().at({"r", 0}).total, uint64_t{1});
  // What is held beyond that comes back first.
  CHECK_EQ(ledger.uses().at({"r", 0}).held, uint64_t{2});
  const size_t late = Enter(ledger, Needs({{"R", false, 1}}));
  ledger.GiveBack(small, true);
  CHECK(AskAll(ledger, {late}).empty());
  ledger.GiveBack(other, true);
  CHECK(Grant(ledger) == Numbers({late}));
  ledger.Leave(late);
  ledger.Leave(small);
  ledger.Leave(other);
  CHECK(ledger.uses().empty());
}

TEST(Resources, DevicesAreApartUnlessGlobal) {
  ResourceLedger ledger;
  const size_t first = Enter(ledger, Needs({{"R", false, 1}}, 1, 0));
  const size_t second = Enter(ledger, Needs({{"R", false, 1}}, 1, 1));
  CHECK(AskAll(ledger, {first, second}) == Numbers({first, second}));
  const size_t here = Enter(ledger, Needs({{"G", true, 1}}, 1, 0));
  const size_t there = Enter(ledger, Needs({{"G", true, 1}}, 1, 1));
  CHECK(AskAll(ledger, {here, there}) == Numbers({here}));
}

TEST(Resources, TheOperatorSaysHowMuch) {
  ResourceLedger ledger(
      {{"R", 4, ResourceTotal::kEveryDevice}, {"R", 6, 1}, {"R", 1, 2}, {"G", 3, 0}, {"g", 5, 7}, {"R", 9, 1}});
  CHECK_EQ(Refusal(ledger, Needs({{"R", false, 5}}, 1, 0)), Short("R", "4", "5"));
  CHECK_EQ(Refusal(ledger, Needs({{"r", false, 7}}, 1, 1)), Short("r", "6", "7"));
  CHECK_EQ(Refusal(ledger, Needs({{"R", false, 5}}, 1, 2)), Short("R", "4", "5"));
  CHECK_EQ(Refusal(ledger, Needs({{"G", true, 6}})), Short("G", "5", "6"));
  // Nothing of what is not named.
  CHECK_EQ(Refusal(ledger, Needs({{"S", false, 1}})), Short("S", "0", "1"));
  CHECK(ledger.uses().empty());
  const size_t a = Enter(ledger, Needs({{"R", false, 3}}));
  const size_t b = Enter(ledger, Needs({{"r", false, 1}}));
  const size_t c = Enter(ledger, Needs({{"R", false, 1}}));
  CHECK(AskAll(ledger, {a, b, c}) == Numbers({a, b}));
  Enter(ledger, Needs({{"G", true, 5}}));
  Enter(ledger, Needs({{"S", false, 0}}));
}

TEST(Resources, AreGlobalOrNot) {
  const auto clash = [](const std::string& name) {
    return "Resource \"" + name +
           "\" is present as both global and device-specific resource in the model configuration.";
  };
  ResourceLedger ledger;
  CHECK_EQ(Refusal(ledger, Needs({{"E", false, 1}, {"E", true, 3}})), clash("E"));
  const size_t global = Enter(ledger, Needs({{"R", true, 1}}));
  CHECK_EQ(Refusal(ledger, Needs({{"r", false, 1}})), clash("r"));
  ledger.Leave(global);
  Enter(ledger, Needs({{"R", false, 1}}));
  CHECK_EQ(Refusal(ledger, Needs({{"R", true, 1}})), clash("R"));
}

TEST(Resources, TheLastOfEqualNamesCounts) {
  ResourceLedger ledger;
  Enter(ledger, Needs({{"D", false, 3}, {"d", false, 1}}));
  CHECK_EQ(ledger.uses().at({"d", 0}).total, uint64_t{1});
}

TEST(Resources, GoToWhoExecutedLeastTimesPriority) {
  ResourceLedger ledger;
  const size_t often = Enter(ledger, Needs({{"R", false, 1}}, 0));  // counts as 1
  const size_t seldom = Enter(ledger, Needs({{"R", false, 1}}, 3));
  Numbers order;
  ledger.Ask(seldom);
  ledger.Ask(often);
  for (int i = 0; i < 12; ++i) {
    const Numbers granted = Grant(ledger);
    CHECK_EQ(granted.size(), size_t{1});
    order.push_back(granted[0]);
    ledger.GiveBack(granted[0], true);
    ledger.Ask(granted[0]);
  }
  // 6 2, 6 3, 6 4, 6 5, 6 6: who has waited for longer; from there on one in four.
  CHECK(order == Numbers({often, often, often, often, seldom, often, often, often, seldom, often, often, often}));
  // One that did not execute has not been there.
  ledger.Withdraw(often);
  CHECK(Grant(ledger) == Numbers({seldom}));
  ledger.GiveBack(seldom, false);
  CHECK(AskAll(ledger, {seldom, often}) == Numbers({seldom}));
}

TEST(Resources, SmallOnesDoNotStarveALargeOne) {
  ResourceLedger ledger;
  const size_t large = Enter(ledger, Needs({{"R", false, 3}}, 1));
  const size_t small = Enter(ledger, Needs({{"R", false, 1}}, 2));
  const size_t other = Enter(ledger, Needs({{"R", false, 1}}, 2));
  CHECK(AskAll(ledger, {small}) == Numbers({small}));
  CHECK(AskAll(ledger, {large, other}).empty());  // there are two, and they are kept
  ledger.GiveBack(small, true);
  CHECK(AskAll(ledger, {small}) == Numbers({large}));
  ledger.GiveBack(large, true);
  CHECK(Grant(ledger) == Numbers({other, small}));
}

TEST(Resources, WhatNobodyBeforeNeedsIsForThoseBehind) {
  ResourceLedger ledger;
  const size_t holder = Enter(ledger, Needs({{"A", false, 1}}));
  const size_t blocked = Enter(ledger, Needs({{"A", false, 1}, {"B", false, 1}}));
  const size_t elsewhere = Enter(ledger, Needs({{"C", false, 1}}));
  const size_t behind = Enter(ledger, Needs({{"B", false, 1}}));
  CHECK(AskAll(ledger, {holder}) == Numbers({holder}));
  // B is kept for the one that waits for A.
  CHECK(AskAll(ledger, {blocked, elsewhere, behind}) == Numbers({elsewhere}));
  ledger.GiveBack(holder, true);
  CHECK(Grant(ledger) == Numbers({blocked}));
  CHECK(!ledger.holds(behind) && ledger.waits(behind));
}

TEST(Resources, WhoHasNothingToExecuteHoldsNobodyUp) {
  ResourceLedger ledger;
  const size_t holder = Enter(ledger, Needs({{"R", false, 1}}));
  const size_t large = Enter(ledger, Needs({{"R", false, 2}}));
  const size_t small = Enter(ledger, Needs({{"R", false, 1}}));
  CHECK(AskAll(ledger, {holder}) == Numbers({holder}));
  CHECK(AskAll(ledger, {large, small}).empty());
  const ResourceLedger::Changes changes = ledger.Grant([&](size_t asked) { return asked != large; });
  CHECK(changes.withdrawn == Numbers({large}));
  CHECK(changes.granted == Numbers({small}));
  CHECK(!ledger.waits(large) && !ledger.holds(large));
}

TEST(Resources, ANeedOfNothingIsAlwaysMet) {
  ResourceLedger ledger({{"Q", 1, ResourceTotal::kEveryDevice}});  // of R there is nothing
  const size_t first = Enter(ledger, Needs({{"R", false, 0}}));
  const size_t second = Enter(ledger, Needs({{"R", false, 0}}));
  CHECK(AskAll(ledger, {first, second}) == Numbers({first, second}));
}

TEST(Resources, WhoLeavesGivesBack) {
  ResourceLedger ledger;
  const size_t gone = Enter(ledger, Needs({{"R", false, 1}}));
  const size_t next = Enter(ledger, Needs({{"R", false, 1}}));
  CHECK(AskAll(ledger, {gone, next}) == Numbers({gone}));
  ledger.Leave(gone);
  CHECK(Grant(ledger) == Numbers({next}));
}

}  // namespace
}  // namespace pyinfer
