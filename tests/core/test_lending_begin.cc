// SPDX-License-Identifier: Apache-2.0
// Batches that whoever brings the requests begins, for instances whose threads have nothing to do.
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "engine/lending.h"
#include "engine/model_call.h"
#include "ensembles.h"
#include "sched/rate_limiter.h"

namespace pyinfer {
namespace {

using testing::CheckOutput;
using testing::Ints;
using testing::Works;

template <typename Condition>
void Await(Condition condition) {
  while (!condition()) std::this_thread::yield();
}

void AnswerAll(Batch& batch) {
  for (size_t i = 0; i < batch.size(); ++i) Works::Respond(batch, i, {10 * Works::In(batch, i)});
  batch.Finish();
}

// Keeps what it is given to begin; notes what must never be.
class Starter : public BatchStarter {
 public:
  void End() {}
  bool Begin(Batch batch) override {
    if (batch.empty() || !kept_.empty()) wrong = true;
    kept_ = std::move(batch);
    begun.fetch_add(1);
    return false;
  }
  void Complete() {
    if (kept_.empty()) wrong = true;
    AnswerAll(kept_);
    kept_ = Batch();
  }

  std::atomic<size_t> begun{0};
  std::atomic<bool> wrong{false};

 private:
  Batch kept_;
};

// Watches for ever unless it is woken. Every fifth batch it begins has no answer that would end its Watch.
class WatchingStarter final : public Starter {
 public:
  bool Begin(Batch batch) override {
    const bool heard = begun % 5 != 0;
    Starter::Begin(std::move(batch));
    if (heard) Wake();
    return heard;
  }
  bool PrepareWatch() override {
    std::lock_guard<std::mutex> lock(mutex_);
    woken_ = ended_;
    return true;
  }
  void Watch() override {
    std::unique_lock<std::mutex> lock(mutex_);
    watched.fetch_add(1);
    changed_.wait(lock, [&] { return woken_; });
  }
  void Wake() override {
    std::lock_guard<std::mutex> lock(mutex_);
    woken_ = true;
    changed_.notify_all();
  }
  // From now on there always is something to see: nobody wakes it for the end of the model.
  void End() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
    }
    Wake();
  }

  std::atomic<size_t> watched{0};

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;
  bool ended_ = false;
};

// One more instance of a model, on a thread of its own, whose batches others begin.
template <typename Kind = Starter>
class Beginner {
 public:
  explicit Beginner(std::shared_ptr<Model> model, std::shared_ptr<LimitedInstance> limited = nullptr)
      : model_(std::move(model)), instance(model_->AddInstance(std::move(limited))), thread_([this] { Run(); }) {}
  ~Beginner() {
    model_->Stop();
    starter.End();
    thread_.join();
  }

 private:
  void Run() {
    model_->LetBegin(instance, starter);
    for (;;) {
      bool begun = false;
      Batch batch = model_->NextBatch(instance, &begun);
      if (begun && !batch.empty()) starter.wrong = true;
      if (!begun && batch.empty()) break;
      if (begun) {
        starter.Complete();
      } else {
        AnswerAll(batch);
      }
    }
    model_->StopLending(instance);
    ended = true;
  }

  const std::shared_ptr<Model> model_;

 public:
  const size_t instance;
  Kind starter;
  std::atomic<bool> ended{false};

 private:
  std::thread thread_;
};

void AskAndCheck(Works& works, int32_t value) {
  const auto call = std::make_shared<LocalCall>(works.engine);
  auto request = std::make_unique<Request>(call);
  request->model_name = "m";
  request->inputs.push_back({"IN", DType::kInt32, {1, 1}, Ints({value})});
  call->Start(std::move(request), CallOrigin(), /*decoupled=*/false);
  const auto item = call->Next();
  CHECK(item && item->final);
  CheckOutput(item->response, "OUT", 10 * value);
}

void AskByMany(Works& works, int callers, int32_t each) {
  std::vector<std::thread> threads;
  for (int caller = 0; caller < callers; ++caller) {
    threads.emplace_back([&] {
      for (int32_t i = 0; i < each; ++i) AskAndCheck(works, i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

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
  CHECK(lending.GiveBackBegun(lent, /*heard=*/false));
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
  CHECK(!lending.GiveBackBegun(lent, /*heard=*/true));
  CHECK(lending.Await(4) == InstanceLending::Back::kBegun);
  // Where there will be no answer, and where nothing was begun: by Wake.
  for (const bool begun : {true, false}) {
    CHECK(lending.RestToWatch(4) == &starter);
    lent = lending.BorrowToBegin();
    if (begun) {
      CHECK(!lending.GiveBackBegun(lent, /*heard=*/false));
    } else {
      lending.GiveBack(lent);
      lending.WakeWatching();
    }
    starter.Watch();
    CHECK(lending.Resume(4) == (begun ? InstanceLending::Back::kBegun : InstanceLending::Back::kAsItWas));
  }
  // At the queue again, it is woken there.
  lending.Rest(4);
  CHECK(lending.GiveBackBegun(lending.BorrowToBegin(), /*heard=*/true));
}

// A request that nobody begins, and nobody is woken for, would wait for ever.
TEST(LendingToBegin, ManyCallersOfInstancesThatWatch) {
  Works works(std::make_shared<SystemClock>());
  ModelSpec spec = Works::Spec("m", {"IN"}, {"OUT"}, /*rows=*/4);
  spec.batching.max_queue_delay_ns = 200'000;
  const std::shared_ptr<Model> model = works.Publish(std::move(spec));
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
