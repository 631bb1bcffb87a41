// SPDX-License-Identifier: Apache-2.0
// Models whose instances share resources.
#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "engine/model.h"
#include "sched/rate_limiter.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::IntModel;
using testing::IntRequest;
using testing::KeepingSink;
using testing::SinkPtr;

const BatchOptions kBatches{8, true, {}, 0};

// Models on one limiter; a clock that stands still unless told.
struct House {
  explicit House(std::shared_ptr<const Clock> given = nullptr) : clock(std::move(given)) {
    if (!clock) clock = manual = std::make_shared<ManualClock>(1'000'000);
  }
  ~House() {
    for (const auto& model : models) model->Stop();
  }

  std::shared_ptr<Model> Make(BatchOptions batching = kBatches) {
    models.push_back(Model::Create(IntModel(std::move(batching)), clock));
    models.back()->SetRateLimiter(limiter);
    return models.back();
  }
  std::shared_ptr<LimitedInstance> Enter(uint64_t count, uint32_t priority = 1, const char* resource = "R") {
    auto entered = limiter->Enter({{{resource, false, count}}, priority, 0});
    CHECK(entered.ok());
    return std::move(entered).value();
  }
  uint64_t held(const char* resource = "r") { return limiter->uses().at({resource, 0}).held; }

  SinkPtr Push(Model& model, int64_t rows = 1) {
    auto sink = std::make_shared<KeepingSink>();
    model.Push(IntRequest(model.spec(), sink, rows));
    return sink;
  }

  std::shared_ptr<const Clock> clock;
  std::shared_ptr<ManualClock> manual;
  const std::shared_ptr<RateLimiter> limiter = std::make_shared<RateLimiter>(std::vector<ResourceTotal>());
  std::vector<std::shared_ptr<Model>> models;
};

void Answer(Batch batch) {
  CHECK(!batch.empty());
  for (size_t i = 0; i < batch.size(); ++i) {
    std::vector<Tensor> outputs = {batch.request(i).inputs[0]};
    outputs[0].name = "OUT";
    batch.Respond(i, std::move(outputs), {});
  }
}

// Runs what `model` has for `instance` until the model is stopped, or the instance removed.
std::thread Serve(const std::shared_ptr<Model>& model, size_t instance) {
  return std::thread([model, instance] {
    for (;;) {
      Batch batch = model->NextBatch(instance);
      if (batch.empty()) return;
      Answer(std::move(batch));
    }
  });
}

template <typename Condition>
void Await(Condition condition) {
  while (!condition()) std::this_thread::yield();
}

TEST(RateLimiter, AnInstanceHoldsWhileItExecutes) {
  House house;
  const auto a = house.Make(), b = house.Make();
  a->AddInstance(house.Enter(1));
  b->AddInstance(house.Enter(1));
  const SinkPtr first = house.Push(*a), second = house.Push(*b);
  Batch batch = a->TakeNow(0);
  CHECK(!batch.empty());
  CHECK_EQ(house.held(), uint64_t{1});
  CHECK(b->TakeNow(0).empty());
  Answer(std::move(batch));
  CHECK_EQ(first->answers.load(), 1);
  Answer(b->TakeNow(0));
  CHECK_EQ(second->answers.load(), 1);
  CHECK_EQ(house.held(), uint64_t{0});
}

TEST(RateLimiter, ABatchThatIsDroppedGivesBack) {
  House house;
  const auto model = house.Make();
  model->AddInstance(house.Enter(1));
  const SinkPtr sink = house.Push(*model);
  {
    Batch batch = model->TakeNow(0);
  }
  CHECK(sink->code() == Code::kInternal);
  CHECK_EQ(house.held(), uint64_t{0});
}

TEST(RateLimiter, WhatCameWhileItWaitedIsInTheBatch) {
  House house;
  const auto a = house.Make(), b = house.Make();
  a->AddInstance(house.Enter(1));
  b->AddInstance(house.Enter(1));
  house.Push(*a);
  house.Push(*b);
  Batch batch = a->TakeNow(0);
  CHECK(b->TakeNow(0).empty());
  house.Push(*b);
  Answer(std::move(batch));
  Batch grown = b->TakeNow(0);
  CHECK_EQ(grown.size(), size_t{2});
  Answer(std::move(grown));
}

TEST(RateLimiter, ADelayedBatchHoldsNothing) {
  House house;
  const auto slow = house.Make({8, true, {}, 1000}), quick = house.Make();
  slow->AddInstance(house.Enter(1));
  quick->AddInstance(house.Enter(1, 5));
  house.Push(*slow);
  CHECK(slow->TakeNow(0).empty());
  CHECK_EQ(house.held(), uint64_t{0});
  house.Push(*quick);
  Answer(quick->TakeNow(0));
  house.manual->Advance(1000);
  Answer(slow->TakeNow(0));
}

TEST(RateLimiter, TheCancelledHoldNobodyUp) {
  House house;
  const auto holder = house.Make(), large = house.Make(), small = house.Make();
  holder->AddInstance(house.Enter(1));
  large->AddInstance(house.Enter(2));
  small->AddInstance(house.Enter(1));
  for (const auto& model : house.models) house.Push(*model);
  Batch batch = holder->TakeNow(0);
  CHECK(large->TakeNow(0).empty());
  CHECK(small->TakeNow(0).empty());
  const SinkPtr sink = house.Push(*large);
  sink->cancel = true;
  large->Reap();
  CHECK(small->TakeNow(0).empty());  // one of them still waits
  large->Stop();
  Answer(small->TakeNow(0));
  Answer(std::move(batch));
}

TEST(RateLimiter, AnotherInstanceWithoutNeedsTakesOver) {
  House house(std::make_shared<SystemClock>());
  const auto holder = house.Make(), model = house.Make();
  holder->AddInstance(house.Enter(1));
  house.Push(*holder);
  Batch batch = holder->TakeNow(0);
  std::thread limited = Serve(model, model->AddInstance(house.Enter(1)));
  std::thread free = Serve(model, model->AddInstance());
  for (int i = 0; i < 100; ++i) {
    const SinkPtr sink = house.Push(*model);
    model->Dispatch();
    Await([&] { return sink->answers.load() == 1; });
  }
  Answer(std::move(batch));
  model->Stop();
  limited.join();
  free.join();
}

TEST(RateLimiter, AWaitingInstanceLeavesAtOnce) {
  House house(std::make_shared<SystemClock>());
  const auto holder = house.Make(), model = house.Make();
  holder->AddInstance(house.Enter(1));
  house.Push(*holder);
  Batch batch = holder->TakeNow(0);
  const size_t instance = model->AddInstance(house.Enter(3));
  std::thread waiting = Serve(model, instance);
  const SinkPtr sink = house.Push(*model);
  model->Dispatch();
  model->RemoveInstance(instance);
  waiting.join();
  CHECK_EQ(house.limiter->uses().at({"r", 0}).total, uint64_t{1});  // it does not count any more
  CHECK_EQ(sink->answers.load(), 0);
  std::thread next = Serve(model, model->AddInstance(house.Enter(1)));
  Answer(std::move(batch));
  Await([&] { return sink->answers.load() == 1; });
  model->Stop();
  next.join();
}

// Of a model whose instances come and go, those count that take batches.
TEST(RateLimiter, WhoIsRemovedCountsNoMore) {
  House house;
  const auto model = house.Make();
  CHECK(model->Limits().empty());
  const auto small = house.Enter(1);
  const size_t stays = model->AddInstance(small);
  const size_t free = model->AddInstance();
  CHECK(model->Limits().empty());  // one needs nothing
  model->RemoveInstance(free);
  CHECK_EQ(model->Limits().size(), size_t{1});
  const size_t large = model->AddInstance(house.Enter(3));
  CHECK_EQ(model->Limits().size(), size_t{2});
  house.Push(*model);
  Batch batch = model->TakeNow(large);
  model->RemoveInstance(large);
  // It takes nothing more, and what it needs is there until its batch is done.
  CHECK(model->Limits().size() == 1 && model->Limits()[0] == small);
  CHECK_EQ(house.limiter->uses().at({"r", 0}).total, uint64_t{3});
  Answer(std::move(batch));
  CHECK(model->NextBatch(large).empty());
  CHECK(model->Limits().size() == 1 && model->Limits()[0] == small);
  CHECK_EQ(house.limiter->uses().at({"r", 0}).total, uint64_t{1});
  model->RemoveInstance(stays);
  CHECK(model->Limits().empty());
  CHECK(model->NextBatch(stays).empty());
}

TEST(RateLimiter, StopEndsThoseThatWait) {
  House house(std::make_shared<SystemClock>());
  const auto holder = house.Make(), model = house.Make();
  holder->AddInstance(house.Enter(1));
  house.Push(*holder);
  Batch batch = holder->TakeNow(0);
  CHECK(model->StartNative("identity", {}, {"i", "j"}, {house.Enter(1), house.Enter(1)}).ok());
  const SinkPtr sink = house.Push(*model);
  // The executor is quick, but this thread does not wait for what others hold.
  model->Dispatch();
  CHECK_EQ(sink->answers.load(), 0);
  model->Stop();
  CHECK(sink->code() == Code::kUnavailable);
  Answer(std::move(batch));
  CHECK_EQ(house.held(), uint64_t{0});
}

TEST(RateLimiter, NativeInstancesHoldToo) {
  House house(std::make_shared<SystemClock>());
  const auto holder = house.Make(), model = house.Make();
  holder->AddInstance(house.Enter(1));
  house.Push(*holder);
  Batch batch = holder->TakeNow(0);
  CHECK(model->StartNative("identity", {}, {"i"}, {house.Enter(1)}).ok());
  const SinkPtr sink = house.Push(*model);
  model->Dispatch();
  CHECK_EQ(sink->answers.load(), 0);
  Answer(std::move(batch));
  Await([&] { return sink->answers.load() == 1; });
  // The limits of an instance that stays are exchanged.
  house.Push(*holder);
  Await([&] { return !(batch = holder->TakeNow(0)).empty(); });
  CHECK(model->StartNative("identity", {}, {"i"}, {nullptr}).ok());
  const SinkPtr other = house.Push(*model);
  model->Dispatch();
  CHECK_EQ(other->answers.load(), 1);
  Answer(std::move(batch));
}

// Threads of several models at once: never more than there is, and everything is answered.
TEST(RateLimiter, LimitsHoldUnderAStorm) {
  House house(std::make_shared<SystemClock>());
  constexpr uint64_t kTotal = 3;
  std::atomic<uint64_t> in_use{0}, most{0};
  std::vector<std::thread> threads;
  for (uint64_t need = 1; need <= kTotal; ++need) {
    const auto model = house.Make();
    for (int i = 0; i < 2; ++i) {
      const size_t instance = model->AddInstance(house.Enter(need));
      threads.emplace_back([&, model, instance, need] {
        for (;;) {
          Batch batch = model->NextBatch(instance);
          if (batch.empty()) return;
          const uint64_t now = in_use.fetch_add(need) + need;
          uint64_t known = most.load();
          while (known < now && !most.compare_exchange_weak(known, now)) {
          }
          std::this_thread::yield();
          in_use.fetch_sub(need);
          Answer(std::move(batch));
        }
      });
    }
  }
  std::vector<SinkPtr> sinks;
  for (int i = 0; i < 600; ++i) {
    Model& model = *house.models[static_cast<size_t>(i) % house.models.size()];
    sinks.push_back(house.Push(model));
    model.Dispatch();
    if (i % 7 == 0) {
      sinks.back()->cancel = true;
      model.Reap();
    }
  }
  for (const SinkPtr& sink : sinks) Await([&] { return sink->answers.load() == 1; });
  for (const auto& model : house.models) model->Stop();
  for (std::thread& thread : threads) thread.join();
  CHECK(most.load() <= kTotal);
  for (const auto& model : house.models) CHECK_EQ(model->pending(), size_t{0});
  CHECK(house.limiter->uses().empty());
}

}  // namespace
}  // namespace pyinfer
