// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <functional>
#include <memory>
#include <string>
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
using testing::KeepingSink;
using testing::Works;

template <typename Condition>
void Await(Condition condition) {
  while (!condition()) std::this_thread::yield();
}

// Answers with ten times the input, after `meanwhile`; notes who did it, and whether two did at a time.
class Runner final : public BatchRunner {
 public:
  void Run(Batch batch) override {
    if (running_.exchange(true)) twice = true;
    if (meanwhile) meanwhile();
    for (size_t i = 0; i < batch.size(); ++i) {
      seen.push_back(Works::In(batch, i));
      Works::Respond(batch, i, {10 * Works::In(batch, i)});
    }
    (std::this_thread::get_id() == caller ? here : elsewhere).fetch_add(batch.size());
    running_ = false;  // before the answers: who has one may go on at once
    batch.Finish();
  }

  const std::thread::id caller = std::this_thread::get_id();
  std::function<void()> meanwhile;
  std::atomic<bool> twice{false};
  std::atomic<size_t> here{0};
  std::atomic<size_t> elsewhere{0};
  std::vector<int32_t> seen;

 private:
  std::atomic<bool> running_{false};
};

// One more instance of a model, on a thread of its own, that is lent.
class Lender {
 public:
  explicit Lender(std::shared_ptr<Model> model)
      : model_(std::move(model)), instance(model_->AddInstance()), thread_([this] {
          model_->Lend(instance, runner);
          for (Batch batch = model_->NextBatch(instance); !batch.empty(); batch = model_->NextBatch(instance)) {
            runner.Run(std::move(batch));
          }
          model_->StopLending(instance);
          ended = true;
        }) {}
  ~Lender() {
    model_->Stop();
    thread_.join();
  }

 private:
  const std::shared_ptr<Model> model_;

 public:
  const size_t instance;
  Runner runner;
  std::atomic<bool> ended{false};

 private:
  std::thread thread_;
};

std::shared_ptr<LocalCall> Ask(Works& works, int32_t value, bool runs_callee = true) {
  auto call = std::make_shared<LocalCall>(works.engine);
  auto request = std::make_unique<Request>(call);
  request->model_name = "m";
  request->inputs.push_back({"IN", DType::kInt32, {1, 1}, Ints({value})});
  CallOrigin origin;
  origin.runs_callee = runs_callee;
  call->Start(std::move(request), origin, /*decoupled=*/false);
  return call;
}

void CheckAnswer(const std::shared_ptr<LocalCall>& call, int32_t value) {
  const auto item = call->Next();
  CHECK(item && item->final);
  CheckOutput(item->response, "OUT", value);
}

// Asks until this thread has executed a call: until the instance rested when one was made.
void AskUntilHere(Works& works, Lender& lender) {
  const size_t before = lender.runner.here;
  Await([&] {
    CheckAnswer(Ask(works, 1), 10);
    return lender.runner.here > before;
  });
}

TEST(Lending, AnInstanceIsInOnePairOfHands) {
  InstanceLending lending;
  Runner runner;
  CHECK(!lending.offers());
  CHECK(lending.Resume(3) == InstanceLending::Back::kAsItWas);
  lending.Offer(3, &runner);
  CHECK(lending.offers());
  CHECK(!lending.Borrow());
  lending.Rest(3);
  const InstanceLending::Lent lent = lending.Borrow();
  CHECK_EQ(lent.instance, size_t{3});
  CHECK(lent.runner == &runner);
  CHECK(!lending.Borrow());
  CHECK(!lending.BorrowToBegin());
  CHECK(lending.Resume(3) == InstanceLending::Back::kLent);
  std::thread thread([&] { lending.GiveBack(lent); });
  CHECK(lending.Await(3) == InstanceLending::Back::kAsItWas);
  thread.join();
  CHECK(!lending.Borrow());
  lending.Withdraw(3);
  CHECK(!lending.offers());
}

TEST(Lending, WhoWaitsExecutesTheCallee) {
  Works works;
  Lender lender(works.Part("m"));
  AskUntilHere(works, lender);
  CheckAnswer(Ask(works, 2, /*runs_callee=*/false), 20);
  CHECK(lender.runner.elsewhere >= 1);
  CHECK_EQ(works.model("m").Statistics().success.count, lender.runner.here + lender.runner.elsewhere);
  CHECK_EQ(works.model("m").in_flight(), size_t{0});
}

TEST(Lending, WhatIsLentExecutesOneBatchAtATime) {
  Works works;
  Lender lender(works.Part("m"));
  std::shared_ptr<LocalCall> other;
  AskUntilHere(works, lender);
  lender.runner.meanwhile = [&] {
    if (std::this_thread::get_id() != lender.runner.caller || other) return;
    // Its thread is woken for this one, and finds that the instance is not there.
    other = Ask(works, 5, /*runs_callee=*/false);
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    CHECK(!other->ended());
  };
  Await([&] {
    CheckAnswer(Ask(works, 1), 10);
    return other != nullptr;
  });
  CheckAnswer(other, 50);
  CHECK(!lender.runner.twice);
}

TEST(Lending, TheQueueKeepsItsOrder) {
  Works works;
  ModelSpec spec = Works::Spec("m", {"IN"}, {"OUT"}, /*rows=*/1);
  spec.batching.dynamic = false;
  Lender lender(works.Publish(std::move(spec)));
  for (int32_t turn = 0; turn < 200; ++turn) {
    auto first = std::make_shared<KeepingSink>();
    RequestPtr request = works.Request(first, 100 + turn, {"IN"});
    request->model_name = "m";
    works.engine->Submit(std::move(request));  // nobody is woken for it yet
    CheckAnswer(Ask(works, 1), 10);
    Await([&] { return first->answers.load() == 1; });
    // The second one's answer is there, so nobody adds to what was seen.
    CHECK_EQ(lender.runner.seen.at(2 * static_cast<size_t>(turn)), 100 + turn);
    CHECK_EQ(lender.runner.seen.size(), 2 * static_cast<size_t>(turn) + 2);
  }
  CHECK(!lender.runner.twice);
}

TEST(Lending, AnInstanceEndsWhenItIsBack) {
  Works works;
  const std::shared_ptr<Model> model = works.Part("m");
  Lender lender(model);
  bool removed = false;
  lender.runner.meanwhile = [&] {
    if (std::this_thread::get_id() != lender.runner.caller) return;
    removed = true;
    model->RemoveInstance(lender.instance);
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    CHECK(!lender.ended);
  };
  Await([&] {
    CheckAnswer(Ask(works, 1), 10);
    return removed;
  });
  Await([&] { return lender.ended.load(); });
  CHECK(!model->Borrow().lent);
}

TEST(Lending, WhatIsNotRipeIsWaitedFor) {
  Works works;
  ModelSpec spec = Works::Spec("m", {"IN"}, {"OUT"});
  spec.batching.max_queue_delay_ns = 1'000'000;
  Lender lender(works.Publish(std::move(spec)));
  const auto one = Ask(works, 1);
  CHECK(!one->ended());
  std::vector<std::shared_ptr<LocalCall>> others;
  for (int32_t value = 2; value <= 8; ++value) others.push_back(Ask(works, value));  // the batch is full
  CheckAnswer(one, 10);
  for (const auto& call : others) CHECK(call->Next().has_value());
  CHECK(!lender.runner.twice);
}

TEST(Lending, SequencesStayOnTheThreadOfTheirInstance) {
  Works works;
  ModelSpec spec = Works::Spec("m", {"IN"}, {"OUT"});
  spec.sequence.emplace();
  const std::shared_ptr<Model> model = works.Publish(std::move(spec));
  Runner runner;
  model->Lend(model->AddInstance(), runner);
  CHECK(!model->Borrow().lent);
}

TEST(Lending, WhatHoldsResourcesIsNotLent) {
  Works works;
  const auto limiter = std::make_shared<RateLimiter>(std::vector<ResourceTotal>());
  works.engine->SetRateLimiter(limiter);
  const std::shared_ptr<Model> model = works.Part("m");
  StatusOr<std::shared_ptr<LimitedInstance>> limited = limiter->Enter({{{"R", false, 1}}, 1, 0});
  CHECK(limited.ok());
  Runner runner;
  model->Lend(model->AddInstance(std::move(limited).value()), runner);
  Lender other(model);  // needs nothing
  AskUntilHere(works, other);
  CHECK_EQ(runner.seen.size(), size_t{0});
}

TEST(Lending, ManyCallersAndInstances) {
  Works works;
  const std::shared_ptr<Model> model = works.Part("m");
  std::vector<std::unique_ptr<Lender>> lenders;
  for (int i = 0; i < 2; ++i) lenders.push_back(std::make_unique<Lender>(model));
  std::atomic<int> right{0};
  std::vector<std::thread> callers;
  for (int32_t number = 0; number < 4; ++number) {
    callers.emplace_back([&, number] {
      for (int32_t i = 0; i < 500; ++i) {
        const auto call = Ask(works, 1000 * number + i, /*runs_callee=*/i % 4 != 0);
        const auto item = call->Next();
        const auto& outputs = item->response.outputs;
        if (!outputs.empty() && testing::IntsOf(outputs[0].data).at(0) == 10 * (1000 * number + i)) ++right;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK_EQ(right.load(), 2000);
  for (const auto& lender : lenders) CHECK(!lender->runner.twice);
}

}  // namespace
}  // namespace pyinfer
