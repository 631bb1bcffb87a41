// SPDX-License-Identifier: Apache-2.0
// test_ensemble_limits.cc - steps that are limited: who keeps a place for whom, and decoupled models that are held up.
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/burst.h"
#include "check.h"
#include "ensembles.h"
#include "sched/rate_limiter.h"
#include "sched/responder.h"

namespace pyinfer {
namespace {

using testing::Ints;
using testing::KeepingSink;
using testing::SinkPtr;
using testing::Works;

std::vector<Tensor> Out(int32_t value) { return {{"OUT", DType::kInt32, {1, 1}, Ints({value})}}; }

ModelSpec Decoupled(const std::string& name) {
  ModelSpec spec = Works::Spec(name, {"IN"}, {"OUT"});
  spec.decoupled = true;
  return spec;
}

// X -> p (decoupled) -> s -> Y, or with more steps than s; at most one request of each step at a time. `limits`: p's
// instance needs one R of so many, and s's another one.
struct Line : Works {
  explicit Line(const std::vector<std::string>& behind = {"s"}, uint64_t resources = 0) {
    const std::string producer = "p";
    std::shared_ptr<RateLimiter> limiter;
    if (resources != 0) limiter = std::make_shared<RateLimiter>(std::vector<ResourceTotal>{{"R", resources}});
    engine->SetRateLimiter(limiter);
    const auto limited = [&]() -> std::shared_ptr<LimitedInstance> {
      if (!limiter) return nullptr;
      return limiter->Enter({{{"R", false, 1}}, 1, 0}).value();
    };
    producing = Publish(Decoupled(producer));
    producing->AddInstance(limited());
    std::vector<EnsembleStep> steps = {{producer, -1, {{"IN", "X"}}, {{"OUT", "t0"}}}};
    for (size_t i = 0; i < behind.size(); ++i) {
      if (made.count(behind[i]) == 0) Part(behind[i])->AddInstance(limited());
      const std::string to = i + 1 == behind.size() ? "Y" : "t" + std::to_string(i + 1);
      steps.push_back({behind[i], -1, {{"IN", "t" + std::to_string(i)}}, {{"OUT", to}}});
    }
    Ensemble({"X"}, {"Y"}, std::move(steps), /*decoupled=*/true, /*max_inflight_requests=*/1);
  }
  std::shared_ptr<Responder> Begin() { return producing->TakeNow(0).Detach(0); }

  std::shared_ptr<Model> producing;
};

// A thread that sends one response and waits for room; `until` is looked at when it goes on.
class Sender {
 public:
  Sender(std::shared_ptr<Responder> responder, int32_t value, const std::atomic<bool>& until)
      : thread_([this, responder = std::move(responder), value, &until] {
          CHECK(responder->Send(Out(value), {}, false));
          responder->WaitForRoom();
          in_time = until.load();
          done.store(true);
        }) {}
  ~Sender() {
    if (thread_.joinable()) thread_.join();
  }
  // It is held up by now, or has gone on without.
  void AwaitHeldUp(Engine& engine) const {
    while (engine.calls().yielding() == 0 && !done.load()) std::this_thread::yield();
  }
  bool WentOnInTime() {
    thread_.join();
    return in_time;
  }

 private:
  std::atomic<bool> done{false};
  bool in_time = false;
  std::thread thread_;
};

// One more response holds its sender up, until `happens` is called.
template <typename Happens>
void CheckHeldUpUntil(Engine& engine, const std::shared_ptr<Responder>& responder, const Happens& happens) {
  std::atomic<bool> begun{false};
  Sender sender(responder, 2, begun);
  sender.AwaitHeldUp(engine);
  begun.store(true);
  happens();
  CHECK(sender.WentOnInTime());
}

TEST(EnsembleLimits, AProducerIsHeldUpUntilWhatItMadeIsLetIn) {
  Line line;
  const SinkPtr sink = line.Ask(1);
  const auto responder = line.Begin();
  CHECK(responder->Send(Out(1), {}, false));
  responder->WaitForRoom();  // there is room for one
  CheckHeldUpUntil(*line.engine, responder, [&] { line.Execute("s", 0); });
  line.Execute("s", 0);
  responder->WaitForRoom();
  CHECK(responder->End());
  responder->WaitForRoom();
  CHECK_EQ(sink->partial.size(), size_t{2});
  CHECK_EQ(sink->answers.load(), 1);
}

// The step between keeps its place, so that nothing piles up behind it either.
TEST(EnsembleLimits, WhatWaitsFurtherOnHoldsItUpAsWell) {
  Line line({"s", "u"});
  const SinkPtr sink = line.Ask(1);
  const auto responder = line.Begin();
  for (int32_t i = 0; i < 2; ++i) {
    CHECK(responder->Send(Out(i), {}, false));
    responder->WaitForRoom();
    line.Execute("s", 0);  // the second one waits for u, in the place that it has at s
  }
  CHECK_EQ(line.pending("u"), size_t{1});
  CheckHeldUpUntil(*line.engine, responder, [&] {
    CHECK_EQ(line.pending("s"), size_t{0});
    line.Execute("u", 0);
  });
  CHECK(responder->End());
  line.Execute("s", 0);
  line.Execute("u", 0);
  line.Execute("u", 0);
  CHECK_EQ(sink->partial.size(), size_t{3});
  CHECK_EQ(sink->answers.load(), 1);
}

TEST(EnsembleLimits, ACancelledRequestHoldsNobodyUp) {
  Line line;
  const SinkPtr sink = line.Ask(1);
  const SinkPtr other = line.Ask(2);
  const auto responder = line.Begin();
  CHECK(responder->Send(Out(1), {}, false));
  CheckHeldUpUntil(*line.engine, responder, [&] {
    sink->cancel = true;
    line.engine->NoteCancellation();
    line.engine->Dispatch();
  });
  CHECK(responder->cancelled());
  CHECK(responder->End());
  // Its places are others' now.
  const auto next = line.Begin();
  CHECK(next->Send(Out(3), {}, true));
  line.Execute("s", 0);
  CHECK_EQ(other->partial.size(), size_t{1});
  CHECK_EQ(other->answers.load(), 1);
}

// A producer that holds what the step behind does not need is held up as any other.
TEST(EnsembleLimits, AProducerThatHoldsResourcesIsHeldUp) {
  Line line({"s"}, /*resources=*/2);
  const SinkPtr sink = line.Ask(1);
  Batch executing = line.producing->TakeNow(0);
  const auto responder = executing.Detach(0);
  CHECK(responder->Send(Out(1), {}, false));
  responder->WaitForRoom();
  CheckHeldUpUntil(*line.engine, responder, [&] { line.Execute("s", 0); });
  line.Execute("s", 0);
  CHECK(responder->End());
  CHECK_EQ(sink->partial.size(), size_t{2});
  CHECK_EQ(sink->answers.load(), 1);
}

// It has the one R as long as its batch is executed, and responses that follow are made without.
TEST(EnsembleLimits, WhoHoldsWhatTheStepBehindNeedsGoesOn) {
  Line line({"s"}, /*resources=*/1);
  const SinkPtr sink = line.Ask(1);
  Batch executing = line.producing->TakeNow(0);
  const auto responder = executing.Detach(0);
  for (int32_t i = 0; i < 3; ++i) {
    CHECK(responder->Send(Out(i), {}, false));
    responder->WaitForRoom();
  }
  CHECK(line.Take("s").empty());
  executing.Finish();
  CheckHeldUpUntil(*line.engine, responder, [&] {
    for (int i = 0; i < 3; ++i) line.Execute("s", 0);
  });
  line.Execute("s", 0);
  CHECK(responder->End());
  CHECK_EQ(sink->partial.size(), size_t{4});
  CHECK_EQ(sink->answers.load(), 1);
}

// The one instance of p would execute the step behind itself.
TEST(EnsembleLimits, WhoWouldWaitForItselfGoesOn) {
  Line line({"p"});
  const SinkPtr sink = line.Ask(1);
  const auto responder = line.Begin();
  for (int32_t i = 0; i < 3; ++i) {
    CHECK(responder->Send(Out(i), {}, false));
    responder->WaitForRoom();
  }
  CHECK(responder->End());
  for (int32_t i = 0; i < 3; ++i) CHECK(line.Begin()->Send(Out(10 * i), {}, true));
  CHECK_EQ(sink->partial.size(), size_t{3});
  CHECK_EQ(sink->answers.load(), 1);
}

// An ensemble that is a step: what waits around it holds up the model inside.
TEST(EnsembleLimits, AProducerInsideAnEnsembleThatIsAStep) {
  Works works;
  const auto producing = works.Publish(Decoupled("p"));
  producing->AddInstance();
  ModelSpec inner = Works::Spec("inner", {"X"}, {"Y"});
  inner.decoupled = true;
  inner.ensemble = EnsembleOptions{{{"p", -1, {{"IN", "X"}}, {{"OUT", "Y"}}}}, 0};
  works.Publish(inner, {producing});
  works.Part("s");
  works.Ensemble({"X"}, {"Y"}, {{"inner", -1, {{"X", "X"}}, {{"Y", "t"}}}, {"s", -1, {{"IN", "t"}}, {{"OUT", "Y"}}}},
                 /*decoupled=*/true, /*max_inflight_requests=*/1);
  const SinkPtr sink = works.Ask(1);
  const auto responder = producing->TakeNow(0).Detach(0);
  CHECK(responder->Send(Out(1), {}, false));
  responder->WaitForRoom();
  CheckHeldUpUntil(*works.engine, responder, [&] { works.Execute("s", 0); });
  works.Execute("s", 0);
  CHECK(responder->End());
  CHECK_EQ(sink->partial.size(), size_t{2});
  CHECK_EQ(sink->answers.load(), 1);
}

// Nothing waits to be let in: what is missing comes from elsewhere, and may be long in coming.
TEST(EnsembleLimits, WhatWaitsForAnotherBranchHoldsNobodyUp) {
  Works works;
  const auto producing = works.Publish(Decoupled("p"));
  producing->AddInstance();
  works.Part("q");
  works.Part("s", {"L", "R"});
  works.Ensemble({"X"}, {"Y"},
                 {{"p", -1, {{"IN", "X"}}, {{"OUT", "t"}}},
                  {"q", -1, {{"IN", "X"}}, {{"OUT", "w"}}},
                  {"s", -1, {{"L", "t"}, {"R", "w"}}, {{"OUT", "Y"}}}},
                 /*decoupled=*/true, /*max_inflight_requests=*/1);
  const SinkPtr sink = works.Ask(1);
  const auto responder = producing->TakeNow(0).Detach(0);
  for (int32_t i = 0; i < 3; ++i) {
    CHECK(responder->Send(Out(i), {}, false));
    responder->WaitForRoom();
  }
  CHECK(responder->End());
  works.Execute("q", 0);
  for (int32_t i = 0; i < 3; ++i) works.Execute("s", 0);
  CHECK_EQ(sink->partial.size(), size_t{3});
  CHECK_EQ(sink->answers.load(), 1);
}

// Calls know their run, and a run that is over knows no call any more.
TEST(EnsembleLimits, AFailureLeavesNothingBehind) {
  Line line;
  const SinkPtr sink = line.Ask(1);
  auto responder = line.Begin();
  BufferPtr buffer = Buffer::Allocate(4);
  std::memset(buffer->data(), 0, 4);
  const std::weak_ptr<Buffer> left = buffer;
  {
    const Burst burst;  // nobody looks at the one before the other has come
    CHECK(responder->Send({{"OUT", DType::kInt32, {1, 1}, Slice(std::move(buffer))}}, {}, false));
    CHECK(responder->Fail(Status::Internal("no more"), true));
  }
  CHECK_EQ(sink->answers.load(), 1);
  responder->WaitForRoom();
  responder.reset();
  CHECK(left.expired());
}

TEST(EnsembleLimits, WithoutALimitNobodyIsHeldUp) {
  Works works;
  const auto producing = works.Publish(Decoupled("p"));
  producing->AddInstance();
  works.Part("s");
  works.Ensemble({"X"}, {"Y"}, {{"p", -1, {{"IN", "X"}}, {{"OUT", "t"}}}, {"s", -1, {{"IN", "t"}}, {{"OUT", "Y"}}}},
                 /*decoupled=*/true);
  const SinkPtr sink = works.Ask(1);
  const auto responder = producing->TakeNow(0).Detach(0);
  for (int32_t i = 0; i < 5; ++i) {
    CHECK(responder->Send(Out(i), {}, false));
    responder->WaitForRoom();
  }
  CHECK_EQ(works.pending("s"), size_t{5});
  CHECK(responder->End());
  works.Execute("s", 0);
  CHECK_EQ(sink->partial.size(), size_t{5});
}

}  // namespace
}  // namespace pyinfer
