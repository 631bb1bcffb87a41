// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "ensembles.h"

namespace pyinfer {
namespace {

using testing::CheckFailed;
using testing::CheckOutput;
using testing::KeepingSink;
using testing::SinkPtr;
using testing::Works;

const std::vector<std::string> kDiamond = {"a", "b", "c", "d"};

TEST(EnsembleFaults, AFailureAtAnyStepAnswersOnce) {
  for (const std::string& bad : kDiamond) {
    Works works;
    const auto ensemble = works.Diamond();
    const SinkPtr sink = works.Ask();
    for (const std::string& name : kDiamond) {
      Batch batch = works.Take(name);
      if (batch.empty()) continue;
      if (name == bad) {
        batch.Fail(0, Status::Unavailable("no " + name));
      } else {
        Works::Respond(batch, 0, {1});
      }
      batch.Finish();
      CHECK_EQ(sink->answers.load(), name < bad ? 0 : 1);
    }
    CheckFailed(sink, Code::kUnavailable, "in ensemble 'e', no " + bad);
    CHECK(sink->reason == FailureReason::kOther);
    // What was in a queue is not executed for nobody.
    for (const std::string& name : kDiamond) CHECK_EQ(works.model(name).in_flight(), size_t{0});
    CHECK_EQ(ensemble->in_flight(), size_t{0});
    CHECK_EQ(works.model(bad).Statistics().failures[static_cast<size_t>(FailureReason::kBackend)], uint64_t{1});
    CHECK_EQ(ensemble->Statistics().failures[static_cast<size_t>(FailureReason::kOther)], uint64_t{1});
    CHECK_EQ(ensemble->Statistics().execution_count, uint64_t{0});
  }
}

TEST(EnsembleFaults, AModelThatSaysThatItIsCancelledIsNamedAsAnyOther) {
  Works works;
  works.Diamond();
  const SinkPtr sink = works.Ask();
  Batch batch = works.Take("a");
  batch.Fail(0, Status(Code::kCancelled, "not now"));
  batch.Finish();
  CheckFailed(sink, Code::kCancelled, "in ensemble 'e', not now");
}

TEST(EnsembleFaults, ALateAnswerIsDropped) {
  Works works;
  works.Diamond();
  const SinkPtr sink = works.Ask();
  works.Execute("a", 0);
  Batch slow = works.Take("b");
  Batch bad = works.Take("c");
  bad.FailOpen(Status::Internal("c broke"));
  bad.Finish();
  CheckFailed(sink, Code::kInternal, "in ensemble 'e', c broke");
  CHECK(slow.request(0).cancelled());
  Works::Respond(slow, 0, {1});
  slow.Finish();
  CheckFailed(sink, Code::kInternal, "in ensemble 'e', c broke");
  CHECK_EQ(works.pending("d"), size_t{0});
}

TEST(EnsembleFaults, CancellationAtAnyStepAnswersAtOnce) {
  for (size_t at = 0; at < kDiamond.size(); ++at) {
    for (const bool executing : {false, true}) {
      Works works;
      const auto ensemble = works.Diamond();
      const SinkPtr sink = works.Ask();
      for (size_t i = 0; i < at; ++i) works.Execute(kDiamond[i], 0);
      Batch running = executing ? works.Take(kDiamond[at]) : Batch();
      sink->cancel = true;
      works.engine->NoteCancellation();
      works.engine->Dispatch();
      CheckFailed(sink, Code::kCancelled, "");
      CHECK(sink->reason == FailureReason::kCancelled);
      CHECK_EQ(ensemble->in_flight(), size_t{0});
      if (executing) {
        CHECK(running.request(0).cancelled());
        Works::Respond(running, 0, {1});
        running.Finish();
      }
      for (const std::string& name : kDiamond) CHECK_EQ(works.model(name).in_flight(), size_t{0});
      CHECK_EQ(sink->answers.load(), 1);
    }
  }
}

TEST(EnsembleFaults, CancellationIsSeenBetweenSteps) {
  Works works;
  works.Diamond();
  const SinkPtr sink = works.Ask();
  Batch batch = works.Take("a");
  sink->cancel = true;
  Works::Respond(batch, 0, {1});
  batch.Finish();
  CheckFailed(sink, Code::kCancelled, "");
  CHECK_EQ(works.pending("b"), size_t{0});
}

TEST(EnsembleFaults, APlaceIsNotLostWithTheRequestThatGotIt) {
  Works works;
  works.Part("a");
  works.Ensemble({"X"}, {"Y"}, {{"a", -1, {{"IN", "X"}}, {{"OUT", "Y"}}}}, /*decoupled=*/false,
                 /*max_inflight_requests=*/1);
  const SinkPtr first = works.Ask(1);
  const SinkPtr second = works.Ask(2);
  const SinkPtr third = works.Ask(3);
  second->cancel = true;  // noticed when its turn has come
  works.Execute("a", 0);
  CheckFailed(second, Code::kCancelled, "");
  CHECK_EQ(first->answers.load(), 1);
  CHECK_EQ(works.pending("a"), size_t{1});
  works.Execute("a", 0);
  CheckOutput(third->response, "Y", 30);
}

TEST(EnsembleFaults, AStepIsRefused) {
  Works works;
  ModelSpec spec = Works::Spec("a", {"IN"}, {"OUT"});
  spec.queue.default_policy.max_queue_size = 1;
  works.Publish(spec);
  works.Ensemble({"X"}, {"Y"}, {{"a", -1, {{"IN", "X"}}, {{"OUT", "Y"}}}});
  const SinkPtr first = works.Ask(1);
  CheckFailed(works.Ask(2), Code::kUnavailable,
              "in ensemble 'e', [request id: <id_unknown>] Exceeds maximum queue size");
  works.Execute("a", 0);
  CHECK(first->code() == Code::kOk);
}

TEST(EnsembleFaults, AStepExpiresInItsQueue) {
  Works works;
  ModelSpec spec = Works::Spec("a", {"IN"}, {"OUT"});
  spec.queue.default_policy.default_timeout_ns = 1000;
  works.Publish(spec);
  works.Ensemble({"X"}, {"Y"}, {{"a", -1, {{"IN", "X"}}, {{"OUT", "Y"}}}});
  struct Listener final : ExpiryListener {
    void OnEarlierExpiry() noexcept override { ++calls; }
    int calls = 0;
  };
  const auto listener = std::make_shared<Listener>();
  works.engine->Listen(listener);
  const SinkPtr sink = works.Ask();
  CHECK_EQ(listener->calls, 1);
  CHECK_EQ(works.engine->NextExpiry(), works.clock->Now() + 1000);
  works.clock->Advance(1000);
  works.engine->Dispatch();
  CheckFailed(sink, Code::kUnavailable, "in ensemble 'e', Request timeout expired");
}

TEST(EnsembleFaults, WhatAStepMakesMustFitTheNext) {
  Works works;
  works.Part("a");
  ModelSpec spec = Works::Spec("b", {"IN"}, {"OUT"});
  spec.inputs[0].dims = {2};
  works.Publish(spec);
  works.Ensemble({"X"}, {"Y"}, {{"a", -1, {{"IN", "X"}}, {{"OUT", "t"}}}, {"b", -1, {{"IN", "t"}}, {{"OUT", "Y"}}}});
  const SinkPtr sink = works.Ask();
  works.Execute("a", 0);
  CHECK_EQ(sink->answers.load(), 1);
  CHECK(sink->code() == Code::kInvalidArg);
  CHECK_EQ(sink->message().rfind("in ensemble 'e', [request id: <id_unknown>] unexpected shape for input 'IN' for "
                                 "model 'b'. Expected [-1,2], got [1,1]. ",
                                 0),
           size_t{0});
}

TEST(EnsembleFaults, AnOutputThatNobodyMakes) {
  Works works;
  works.Part("a");
  ModelSpec spec = Works::Spec("e", {"X"}, {"Y", "Z"});
  spec.ensemble = EnsembleOptions{{{"a", -1, {{"IN", "X"}}, {{"OUT", "Y"}}}}, 0};
  works.Publish(spec);
  const SinkPtr sink = works.Ask();
  works.Execute("a", 0);
  CheckFailed(sink, Code::kInvalidArg,
              "in ensemble 'e', [request id: <id_unknown>] unexpected deadlock, at least one output is not set while "
              "no more ensemble steps can be "
              "made");
}

TEST(EnsembleFaults, AModelThatIsGoneFinishesWhatHasBegun) {
  Works works;
  works.Diamond();
  const SinkPtr sink = works.Ask();
  works.Execute("a", 0);
  for (const std::string& name : kDiamond) works.engine->Withdraw(name);
  works.Execute("b", 0);
  works.Execute("c", 0);
  works.Execute("d", 0);
  CHECK(sink->code() == Code::kOk);
  // Nothing is left of it.
  const auto rest = std::move(works.made);
  for (const auto& [name, versions] : rest) versions[0]->Stop();
}

TEST(EnsembleFaults, AModelThatIsGoneForGood) {
  Works works;
  works.Part("b");
  works.Part("a");
  works.Ensemble({"X"}, {"Y"}, {{"a", -1, {{"IN", "X"}}, {{"OUT", "t"}}}, {"b", -1, {{"IN", "t"}}, {{"OUT", "Y"}}}});
  const SinkPtr sink = works.Ask();
  works.engine->Withdraw("b");
  works.made.erase("b");
  works.Execute("a", 0);
  CheckFailed(sink, Code::kNotFound, "in ensemble 'e', Request for unknown model: 'b' is not found");
}

TEST(EnsembleFaults, AReloadedModelServesTheNextStep) {
  Works works;
  works.Diamond();
  const SinkPtr sink = works.Ask();
  works.Execute("a", 0);
  const auto old = works.made["d"].back();
  works.Part("d", {"L", "R"});
  CHECK(old->Drain(std::chrono::seconds(60)));
  works.Execute("b", 0);
  works.Execute("c", 0);
  works.Execute("d", 5);
  CHECK_EQ(sink->message(), "");
  CheckOutput(sink->response, "Y", 2005);
}

TEST(EnsembleFaults, AStopAnswersAndADrainWaits) {
  Works works;
  const auto ensemble = works.Diamond();
  const SinkPtr first = works.Ask();
  CHECK(!ensemble->Drain(std::chrono::nanoseconds(0)));
  CheckFailed(works.Ask(), Code::kUnavailable,
              "Server is stopping, scheduler for model has stopped accepting new inference requests");
  // The server stops as well: what has begun goes on.
  works.engine->StopAccepting();
  for (const std::string& name : kDiamond) works.Execute(name, 0);
  CHECK(first->code() == Code::kOk);
  CHECK(ensemble->Drain(std::chrono::seconds(60)));

  Works others;
  const auto stopped = others.Diamond();
  const SinkPtr second = others.Ask();
  others.Execute("a", 0);
  stopped->Stop();
  CheckFailed(second, Code::kUnavailable, "in ensemble 'e', the model 'e' is being unloaded");
  others.engine->Dispatch();
  for (const std::string& name : kDiamond) CHECK_EQ(others.model(name).in_flight(), size_t{0});
}

std::shared_ptr<Model> Native(Works& works, const std::string& name, const ExecutorParameters& parameters = {}) {
  const bool joins = name == "d";
  const auto model = works.engine->CreateModel(joins ? Works::Spec(name, {"L", "R"}, {"O1", "O2"})
                                                     : Works::Spec(name, {"IN"}, {"OUT"}));
  CHECK(model->StartNative("identity", parameters, {"i", "j"}).ok());
  works.made[name].push_back(model);
  works.engine->Publish(name, {model}, {});
  return model;
}

// Sends requests; cancels each seventh.
std::vector<SinkPtr> SendMany(Works& works, int count) {
  std::vector<SinkPtr> sinks;
  for (int i = 0; i < count; ++i) {
    sinks.push_back(std::make_shared<KeepingSink>());
    works.engine->Submit(works.Request(sinks.back(), i));
    if (i % 3 == 0) works.engine->Dispatch();
    if (i % 7 != 0) continue;
    sinks.back()->cancel = true;
    works.engine->NoteCancellation();
  }
  works.engine->Dispatch();
  return sinks;
}

// Requests, cancellations and reloads of a step's model on threads of their own: each request is answered once.
TEST(EnsembleFaults, Storm) {
  Works works;
  for (const char* name : {"a", "b", "c"}) Native(works, name);
  Native(works, "d", {{"execute_delay_ms", "1"}});
  works.Ensemble({"X"}, {"Y"},
                 {{"a", -1, {{"IN", "X"}}, {{"OUT", "s"}}},
                  {"b", -1, {{"IN", "s"}}, {{"OUT", "l"}}},
                  {"c", -1, {{"IN", "s"}}, {{"OUT", "r"}}},
                  {"d", -1, {{"L", "l"}, {"R", "r"}}, {{"O1", "Y"}}}},
                 /*decoupled=*/false, /*max_inflight_requests=*/3);
  constexpr int kRequests = 150;
  std::vector<SinkPtr> sinks[3];
  std::atomic<int> left{3};
  std::vector<std::thread> threads;
  for (auto& mine : sinks) {
    threads.emplace_back([&] {
      mine = SendMany(works, kRequests);
      left.fetch_sub(1);
    });
  }
  while (left.load() != 0) {
    const std::shared_ptr<Model> old = works.made["b"].back();
    Native(works, "b");
    CHECK(old->Drain(std::chrono::seconds(60)));
    old->Stop();
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(works.model("e").Drain(std::chrono::seconds(60)));
  // A request is counted as answered just before its sink is: the threads have to end.
  for (const std::string& name : kDiamond) works.model(name).Stop();
  for (const auto& mine : sinks) {
    for (int i = 0; i < kRequests; ++i) {
      const KeepingSink& sink = *mine[static_cast<size_t>(i)];
      CHECK_EQ(sink.answers.load(), 1);
      if (i % 7 == 0 && !sink.response.status.ok()) continue;
      CHECK_EQ(sink.message(), "");
      CheckOutput(sink.response, "Y", i);
    }
  }
}

}  // namespace
}  // namespace pyinfer
