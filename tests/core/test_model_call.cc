// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "check.h"
#include "engine/model_call.h"
#include "ensembles.h"

namespace pyinfer {
namespace {

using testing::CheckOutput;
using testing::Ints;
using testing::KeepingSink;
using testing::Works;

// A call to `name` with one row of `value`, begun.
std::shared_ptr<LocalCall> Begin(Works& works, const std::string& name, const CallOrigin& origin = {},
                                 bool decoupled = false) {
  auto call = std::make_shared<LocalCall>(works.engine);
  auto request = std::make_unique<Request>(call);
  request->model_name = name;
  request->inputs.push_back({name == "e" ? "X" : "IN", DType::kInt32, {1, 1}, Ints({7})});
  call->Start(std::move(request), origin, decoupled);
  return call;
}

void CheckRefused(const std::shared_ptr<LocalCall>& call, Code code, const std::string& text) {
  const auto item = call->Next();
  CHECK(item && item->final);
  CHECK(item->response.status.code() == code);
  CHECK(item->response.status.message().find(text) != std::string::npos);
  CHECK(!call->Next());
}

TEST(ModelCall, IsAnsweredOnceAndThenEnded) {
  Works works;
  works.Part("m");
  const auto call = Begin(works, "m");
  CHECK(!call->ended());
  CHECK(!call->Poll());
  works.Execute("m", 1);
  CHECK(call->ended());
  const auto item = call->Next();
  CHECK(item && item->final);
  CheckOutput(item->response, "OUT", 71);
  CHECK(!call->Next());
}

TEST(ModelCall, AQuickModelAnswersBeforeStartReturns) {
  Works works;
  works.Identity("i");
  const auto call = Begin(works, "i");
  auto item = call->Poll();
  CHECK(item && item->response.status.ok());
  // The callee has answered with the caller's own bytes: whoever wants to write to them has to copy them.
  CHECK(item->response.outputs[0].shared);
}

TEST(ModelCall, WhatIsWrongIsAnErrorOfTheAnswer) {
  Works works;
  works.Part("m");
  CheckRefused(Begin(works, "none"), Code::kInternal, "Model none - Error when running inference: Failed for execute");
  ModelSpec many = Works::Spec("many", {"IN"}, {"OUT"});
  many.decoupled = true;
  works.Publish(std::move(many));
  CheckRefused(Begin(works, "many"), Code::kInternal, "Please use 'decoupled=True'");
}

TEST(ModelCall, ThatIsAClientsIsToldWhatClientsAre) {
  Works works;
  works.Part("m");
  CallOrigin origin;
  origin.of_client = true;
  CheckRefused(Begin(works, "none", origin), Code::kNotFound, "Request for unknown model: 'none' is not found");
  origin.dispatch = false;
  const auto one = Begin(works, "m", origin);
  const auto other = Begin(works, "m", origin);
  works.engine->Dispatch();
  works.Execute("m", 1);  // both are in one batch
  CHECK(one->ended() && other->ended());
}

TEST(ModelCall, GoesOnWhileTheServerStops) {
  Works works;
  works.Part("m");
  works.engine->StopAccepting();
  const auto call = Begin(works, "m");
  works.Execute("m", 1);
  CHECK(call->Next()->response.status.ok());
}

TEST(ModelCall, IsCancelledWithAllOfItsParents) {
  Works works;
  works.Part("m");
  auto first = std::make_shared<KeepingSink>();
  auto second = std::make_shared<KeepingSink>();
  const RequestPtr one = works.Request(first, 1);
  const RequestPtr two = works.Request(second, 1);
  CallOrigin origin;
  origin.AddParent(*one, works.clock->Now());
  origin.AddParent(*two, works.clock->Now());
  const auto call = Begin(works, "m", origin);
  first->cancel = true;
  works.engine->NoteCancellation();
  works.engine->Dispatch();
  CHECK(!call->ended());
  second->cancel = true;
  works.engine->NoteCancellation();
  works.engine->Dispatch();
  CheckRefused(call, Code::kCancelled, "");
  CHECK_EQ(works.pending("m"), size_t{0});
}

TEST(ModelCall, IsCancelledWithAParentThatIsAnsweredApart) {
  Works works;
  works.Part("m");
  works.Part("caller");
  const auto client = std::make_shared<KeepingSink>();
  RequestPtr request = works.Request(client, 1, {"IN"});
  request->model_name = "caller";
  works.engine->Submit(std::move(request));
  works.engine->Dispatch();
  Batch batch = works.Take("caller");
  const CallParent parent = CallParent::Of(batch.request(0));
  const std::shared_ptr<Responder> responder = batch.Detach(0);
  batch.Finish();
  CallOrigin origin;
  origin.AddParent(parent, works.clock->Now());
  const auto call = Begin(works, "m", origin);
  client->cancel = true;
  works.engine->NoteCancellation();
  works.engine->Dispatch();
  CheckRefused(call, Code::kCancelled, "");
  responder->Fail(Status::Cancelled(), /*final=*/true);
}

TEST(ModelCall, CanBeCancelledByTheCaller) {
  Works works;
  works.Part("m");
  const auto call = Begin(works, "m");
  call->Cancel();
  CheckRefused(call, Code::kCancelled, "");
}

TEST(ModelCall, InheritsWhatIsLeftOfTheTime) {
  Works works;
  ModelSpec spec = Works::Spec("m", {"IN"}, {"OUT"});
  spec.queue.default_policy.default_timeout_ns = 1'000'000'000;
  spec.queue.default_policy.allow_timeout_override = true;
  works.Publish(std::move(spec));
  const RequestPtr parent = works.Request(std::make_shared<KeepingSink>(), 1);
  parent->timeout_us = 500;
  parent->timeline.queued = works.clock->Now();
  works.clock->Advance(200'000);
  CallOrigin origin;
  origin.AddParent(*parent, works.clock->Now());
  const auto call = Begin(works, "m", origin);
  works.clock->Advance(299'000);
  works.engine->Dispatch();
  CHECK(!call->ended());
  works.clock->Advance(1'000);
  works.engine->Dispatch();
  CheckRefused(call, Code::kUnavailable, "Request timeout expired");
}

TEST(ModelCall, AChainOfCallsEnds) {
  Works works;
  works.Part("m");
  const RequestPtr parent = works.Request(std::make_shared<KeepingSink>(), 1);
  parent->call_depth = ModelCall::kMaxDepth;
  CallOrigin origin;
  origin.AddParent(*parent, works.clock->Now());
  CheckRefused(Begin(works, "m", origin), Code::kInternal, "more than 64 times");
}

TEST(ModelCall, ACallThatWouldWaitForItselfIsRefused) {
  Works works;
  const auto model = works.Part("m");
  CallOrigin origin;
  origin.model = model;
  origin.instance = model->AddInstance();
  CheckRefused(Begin(works, "m", origin), Code::kInternal, "would wait for ever for model 'm'");
  CHECK_EQ(works.pending("m"), size_t{0});
  // Through an ensemble as well.
  works.Ensemble({"X"}, {"Y"}, {{"m", -1, {{"IN", "X"}}, {{"OUT", "Y"}}}});
  CheckRefused(Begin(works, "e", origin), Code::kInternal, "would wait for ever for model 'e'");
}

// Two instances of a and one of b; one of a's calls b, which calls a.
struct Ring {
  explicit Ring(size_t caller) {
    a = works.Part("a");
    b = works.Part("b");
    for (int i = 0; i < 2; ++i) a->AddInstance();
    b->AddInstance();
    to_b = Begin(works, "b", Of(a, caller));
    executed = works.Take("b");
    CHECK_EQ(executed.size(), size_t{1});
  }
  static CallOrigin Of(const std::shared_ptr<Model>& model, size_t instance) {
    CallOrigin origin;
    origin.model = model;
    origin.instance = instance;
    return origin;
  }
  void CheckAnswered() {
    Works::Respond(executed, 0, {5});
    executed.Finish();
    CheckOutput(to_b->Next()->response, "OUT", 5);
  }

  Works works;
  std::shared_ptr<Model> a, b;
  std::shared_ptr<LocalCall> to_b;
  Batch executed;
};

TEST(ModelCall, WhoIsRemovedAmidACallIsNotWaitedFor) {
  Ring ring(/*caller=*/1);
  ring.a->RemoveInstance(1);
  const auto to_a = Begin(ring.works, "a", Ring::Of(ring.b, 0));
  CHECK(!to_a->ended());  // the other one takes it
  ring.works.Execute("a", 1);
  CheckOutput(to_a->Next()->response, "OUT", 71);
  ring.CheckAnswered();
}

TEST(ModelCall, ARingThatIsClosedByWhoIsRemovedIsBroken) {
  Ring ring(/*caller=*/0);
  const auto to_a = Begin(ring.works, "a", Ring::Of(ring.b, 0));
  CHECK(!to_a->ended());
  ring.a->RemoveInstance(1);
  CheckRefused(to_a, Code::kInternal, "'b' would wait for ever for model 'a'");
  CHECK_EQ(ring.works.pending("a"), size_t{0});
  CHECK(!ring.to_b->ended());
  ring.CheckAnswered();
}

// Though there is one that could execute it: its place may be at the one that waits.
TEST(ModelCall, ASequenceIsNotAskedForByWhatItWaitsFor) {
  Works works;
  ModelSpec spec = Works::Spec("s", {"IN"}, {"OUT"});
  spec.sequence.emplace();
  spec.sequence->slots = 8;
  const auto sequences = works.Publish(std::move(spec));
  const auto other = works.Part("m");
  for (int i = 0; i < 2; ++i) sequences->AddInstance();
  const auto call = Begin(works, "m", Ring::Of(sequences, 0));
  CheckRefused(Begin(works, "s", Ring::Of(other, other->AddInstance())), Code::kInternal, "would wait for ever");
  works.Execute("m", 1);
  CHECK(call->Next()->response.status.ok());
}

TEST(ModelCall, TellsTheMailboxOnce) {
  Works works;
  works.Part("m");
  const auto mailbox = std::make_shared<CallMailbox>();
  const auto call = Begin(works, "m");
  call->Notify(mailbox, 5);
  CHECK(mailbox->Collect().empty());
  works.Execute("m", 1);
  const auto told = mailbox->Collect();
  CHECK_EQ(told.size(), size_t{1});
  CHECK_EQ(told[0], uint64_t{5});
  call->Notify(mailbox, 6);  // it is there already
  CHECK_EQ(mailbox->Collect().size(), size_t{1});
}

TEST(ModelCall, WaitsForAnotherThread) {
  Works works;
  works.Part("m");
  const auto call = Begin(works, "m");
  std::thread other([&] { works.Execute("m", 1); });
  const auto item = call->Next();
  other.join();
  CHECK(item && item->response.status.ok());
}

}  // namespace
}  // namespace pyinfer
