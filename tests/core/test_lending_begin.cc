// SPDX-License-Identifier: Apache-2.0
// Batches that whoever brings the requests begins, for instances whose threads have nothing to do.
#include <atomic>
#include <memory>
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
class Starter final : public BatchStarter {
 public:
  void Begin(Batch batch) override {
    if (batch.empty() || !kept_.empty()) wrong = true;
    kept_ = std::move(batch);
    begun.fetch_add(1);
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

// One more instance of a model, on a thread of its own, whose batches others begin.
class Beginner {
 public:
  explicit Beginner(std::shared_ptr<Model> model, std::shared_ptr<LimitedInstance> limited = nullptr)
      : model_(std::move(model)), instance(model_->AddInstance(std::move(limited))), thread_([this] { Run(); }) {}
  ~Beginner() {
    model_->Stop();
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
  Starter starter;
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
  lending.GiveBack(lent, /*begun=*/true);
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
  Beginner beginner(works.Part("m"));
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
  Beginner one(model), two(model), three(model);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int32_t i = 0; i < 300; ++i) AskAndCheck(works, i);
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(!one.starter.wrong && !two.starter.wrong && !three.starter.wrong);
  CHECK_EQ(model->Statistics().success.count, size_t{1200});
  model->RemoveInstance(two.instance);
  Await([&] { return two.ended.load(); });
  AskAndCheck(works, 5);
}

TEST(LendingToBegin, NotWhereAnInstanceHoldsResources) {
  Works works;
  const auto limiter = std::make_shared<RateLimiter>(std::vector<ResourceTotal>());
  works.engine->SetRateLimiter(limiter);
  StatusOr<std::shared_ptr<LimitedInstance>> limited = limiter->Enter({{{"R", false, 1}}, 1, 0});
  CHECK(limited.ok());
  Beginner beginner(works.Part("m"), std::move(limited).value());
  for (int32_t i = 0; i < 200; ++i) AskAndCheck(works, i);
  CHECK_EQ(beginner.starter.begun.load(), size_t{0});
}

}  // namespace
}  // namespace pyinfer
