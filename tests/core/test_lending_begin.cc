// SPDX-License-Identifier: Apache-2.0
// Batches that whoever brings the requests begins, for instances whose threads have nothing to do.
#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "beginners.h"
#include "check.h"
#include "sched/rate_limiter.h"

namespace pyinfer {
namespace {

using testing::AskAndCheck;
using testing::AskByMany;
using testing::Await;
using testing::Beginner;
using testing::PublishWaiting;
using testing::Starter;
using testing::WatchingStarter;
using testing::Works;

TEST(LendingToBegin, WhatWasBegunComesBackWithItsInstance) {
  InstanceLending lending;
  Starter starter;
  lending.Offer(4, &starter);
  CHECK(lending.offers_starters() && !lending.offers_runners());
  CHECK(!lending.BorrowToBegin());
  lending.Rest(4);
  CHECK(!lending.Borrow());
  InstanceLending::Lent lent = lending.BorrowToBegin();
  CHECK(lent.starter == &starter);
  CHECK(lending.Resume(4) == InstanceLending::Back::kLent);
  CHECK(lending.GiveBackBegun(lent, HeardBy::kNobody));
  CHECK(!lending.BorrowToBegin());
  CHECK(lending.Await(4) == InstanceLending::Back::kBegun);
  CHECK(lending.Resume(4) == InstanceLending::Back::kAsItWas);
  lending.Rest(4);
  lent = lending.BorrowToBegin();
  lending.GiveBack(lent);
  CHECK(lending.Resume(4) == InstanceLending::Back::kAsItWas);
  lending.Withdraw(4);
  CHECK(!lending.offers());
}

TEST(LendingToBegin, WhoBringsRequestsBeginsThem) {
  Works works;
  Beginner<> beginner(works.Part("m"));
  size_t asked = 0;
  Await([&] {
    AskAndCheck(works, 7);
    ++asked;
    return beginner.starter.begun >= 20;
  });
  CHECK(!beginner.starter.wrong);
  CHECK_EQ(works.model("m").Statistics().success.count, asked);
  CHECK_EQ(works.model("m").in_flight(), size_t{0});
}

// An instance that was woken for one request may come back with another one, that was begun for it: somebody else is to
// take the first.
TEST(LendingToBegin, ManyCallersAndInstances) {
  Works works;
  ModelSpec spec = Works::Spec("m", {"IN"}, {"OUT"}, /*rows=*/1);
  spec.batching.dynamic = false;
  const std::shared_ptr<Model> model = works.Publish(std::move(spec));
  Beginner<> one(model), two(model), three(model);
  AskByMany(works, 4, 300);
  CHECK(!one.starter.wrong && !two.starter.wrong && !three.starter.wrong);
  CHECK_EQ(model->Statistics().success.count, size_t{1200});
  model->RemoveInstance(two.instance);
  Await([&] { return two.ended.load(); });
  AskAndCheck(works, 5);
}

TEST(LendingToBegin, WhoWatchesIsNotWokenAtTheQueue) {
  InstanceLending lending;
  Starter at_queue;
  WatchingStarter starter;
  lending.Offer(3, &at_queue);
  CHECK(lending.RestToWatch(3) == nullptr);
  CHECK(!lending.BorrowToBegin());
  lending.Offer(4, &starter);
  CHECK(lending.RestToWatch(4) == &starter);
  // By its answer, before it is given back.
  InstanceLending::Lent lent = lending.BorrowToBegin();
  CHECK_EQ(lent.instance, size_t{4});
  CHECK(lending.Resume(4) == InstanceLending::Back::kLent);
  CHECK(!lending.GiveBackBegun(lent, HeardBy::kWatcher));
  CHECK(lending.Await(4) == InstanceLending::Back::kBegun);
  // Where there will be no answer, and where nothing was begun: by Wake.
  for (const bool begun : {true, false}) {
    CHECK(lending.RestToWatch(4) == &starter);
    lent = lending.BorrowToBegin();
    if (begun) {
      CHECK(!lending.GiveBackBegun(lent, HeardBy::kNobody));
    } else {
      lending.GiveBack(lent);
      lending.WakeWatching();
    }
    starter.Watch();
    CHECK(lending.Resume(4) == (begun ? InstanceLending::Back::kBegun : InstanceLending::Back::kAsItWas));
  }
  // At the queue again, it is woken there.
  lending.Rest(4);
  CHECK(lending.GiveBackBegun(lending.BorrowToBegin(), HeardBy::kWatcher));
}

// A request that nobody begins, and nobody is woken for, would wait for ever.
TEST(LendingToBegin, ManyCallersOfInstancesThatWatch) {
  Works works(std::make_shared<SystemClock>());
  const std::shared_ptr<Model> model = PublishWaiting(works);
  Beginner<WatchingStarter> one(model), two(model);
  AskByMany(works, 6, 300);
  CHECK(!one.starter.wrong && !two.starter.wrong);
  CHECK(one.starter.watched > 0 && two.starter.watched > 0);
  CHECK_EQ(model->Statistics().success.count, size_t{1800});
}

// Who brings requests one by one always finds the first instance at rest.
TEST(LendingToBegin, AnInstanceThatWatchesCanBeRemovedUnderLoad) {
  Works works;
  ModelSpec spec = Works::Spec("m", {"IN"}, {"OUT"}, /*rows=*/1);
  spec.batching.dynamic = false;
  const std::shared_ptr<Model> model = works.Publish(std::move(spec));
  Beginner<WatchingStarter> first(model);
  Beginner<> second(model);
  Await([&] {
    AskAndCheck(works, 1);
    return first.starter.watched > 3;
  });
  model->RemoveInstance(first.instance);
  Await([&] {
    AskAndCheck(works, 2);
    return first.ended.load();
  });
}

TEST(LendingToBegin, NotWhereAnInstanceHoldsResources) {
  Works works;
  const auto limiter = std::make_shared<RateLimiter>(std::vector<ResourceTotal>());
  works.engine->SetRateLimiter(limiter);
  StatusOr<std::shared_ptr<LimitedInstance>> limited = limiter->Enter({{{"R", false, 1}}, 1, 0});
  CHECK(limited.ok());
  Beginner<> beginner(works.Part("m"), std::move(limited).value());
  for (int32_t i = 0; i < 200; ++i) AskAndCheck(works, i);
  CHECK_EQ(beginner.starter.begun.load(), size_t{0});
}

}  // namespace
}  // namespace pyinfer
