// SPDX-License-Identifier: Apache-2.0
// Batches that others have begun, and complete, because the doorbell is heard.
#include <atomic>
#include <memory>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "beginners.h"
#include "check.h"

namespace pyinfer {
namespace {

using testing::AskAndCheck;
using testing::AskByMany;
using testing::Beginner;
using testing::PublishWaiting;
using testing::RingingStarter;
using testing::WatchingStarter;
using testing::Works;

TEST(LendingByDoorbell, WhatTheDoorbellIsHeardForIsCompletedByOthers) {
  using Back = InstanceLending::Back;
  InstanceLending lending;
  WatchingStarter starter, other;
  for (const size_t instance : {size_t{7}, size_t{4}}) {
    lending.Offer(instance, instance == 4 ? &starter : &other);
    CHECK(lending.RestToWatch(instance) != nullptr);
  }
  CHECK(!lending.BorrowBegun(0));  // nothing is begun
  CHECK(!lending.GiveBackBegun(lending.BorrowToBegin(), HeardBy::kDoorbell));
  CHECK(!lending.GiveBackBegun(lending.BorrowToBegin(), HeardBy::kWatcher));
  InstanceLending::Lent lent = lending.BorrowBegun(0);
  CHECK_EQ(lent.instance, size_t{7});
  CHECK(!lending.BorrowBegun(0));
  CHECK(lending.Resume(7) == Back::kLent);
  // Completed: it is at rest again.
  lending.GiveBack(lent);
  CHECK(lending.Await(7) == Back::kAsItWas);
  CHECK(lending.Resume(4) == Back::kBegun);
  // In the order of their numbers.
  for (const size_t instance : {size_t{7}, size_t{4}}) {
    CHECK(lending.RestToWatch(instance) != nullptr);
    lending.GiveBackBegun(lending.BorrowToBegin(), HeardBy::kDoorbell);
  }
  for (const size_t instance : {size_t{4}, size_t{7}}) {
    lent = lending.BorrowBegun(instance);
    CHECK_EQ(lent.instance, instance);
    lending.GiveBackBegun(lent, HeardBy::kDoorbell);
  }
  CHECK(!lending.BorrowBegun(8));
  // What is left to its thread is not asked for again, and the thread is woken.
  CHECK(!lending.GiveBackBegun(lending.BorrowBegun(5), HeardBy::kNobody));
  other.Watch();
  CHECK(!lending.BorrowBegun(5));
  CHECK(lending.WatchBegun(7) == nullptr);
  CHECK(lending.Resume(7) == Back::kBegun);
}

// What it is woken for counts, whenever it looks.
TEST(LendingByDoorbell, WhoKeepsWatchingMissesNothing) {
  InstanceLending lending;
  RingingStarter starter;
  lending.Offer(4, &starter);
  CHECK(lending.RestToWatch(4) == &starter);
  CHECK(lending.KeepWatching(4));
  lending.GiveBackBegun(lending.BorrowToBegin(), HeardBy::kDoorbell);
  CHECK(lending.KeepWatching(4));
  const InstanceLending::Lent lent = lending.BorrowBegun(0);
  CHECK(!lending.KeepWatching(4));
  lending.GiveBack(lent);
  CHECK(lending.KeepWatching(4));
  lending.WakeWatching();
  CHECK(!lending.KeepWatching(4));
  CHECK(lending.Resume(4) == InstanceLending::Back::kAsItWas);
  CHECK(lending.RestToWatch(4) == &starter);
  lending.GiveBackBegun(lending.BorrowToBegin(), HeardBy::kNobody);
  CHECK(!lending.KeepWatching(4));
  CHECK(lending.Resume(4) == InstanceLending::Back::kBegun);
}

TEST(LendingByDoorbell, WhoIsWokenForWhatTheDoorbellIsHeardForWatches) {
  InstanceLending lending;
  WatchingStarter starter;
  lending.Offer(4, &starter);
  lending.Rest(4);
  CHECK(lending.GiveBackBegun(lending.BorrowToBegin(), HeardBy::kDoorbell));
  CHECK(lending.WatchBegun(4) == &starter);
  const InstanceLending::Lent lent = lending.BorrowBegun(0);
  CHECK(lending.WatchBegun(4) == nullptr);  // somebody has it
  lending.GiveBack(lent);
  CHECK(lending.WatchBegun(4) == nullptr);  // it is done
  CHECK(lending.Resume(4) == InstanceLending::Back::kAsItWas);
}

// An event loop that hears the doorbell all the time.
TEST(LendingByDoorbell, ManyCallersAndOneWhoHearsTheDoorbell) {
  Works works(std::make_shared<SystemClock>());
  const std::shared_ptr<Model> model = PublishWaiting(works);
  Beginner<RingingStarter> one(model), two(model);
  std::atomic<bool> over{false};
  std::thread loop([&] {
    while (!over) {
      works.engine->TakeAnswers();
      std::this_thread::yield();
    }
  });
  AskByMany(works, 6, 300);
  CHECK(!one.starter.wrong && !two.starter.wrong);
  CHECK(one.starter.completed > 0 && two.starter.completed > 0);
  CHECK(one.starter.watched > 0 && two.starter.watched > 0);
  CHECK_EQ(model->Statistics().success.count, size_t{1800});
  model->RemoveInstance(one.instance);
  AskAndCheck(works, 5);
  over = true;
  loop.join();
}

}  // namespace
}  // namespace pyinfer
