// SPDX-License-Identifier: Apache-2.0
// Calls of models from a worker: both ends in one process, with an engine behind the server's.
#include <unistd.h>

#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "ensembles.h"
#include "worker/call_client.h"
#include "worker/call_server.h"

namespace pyinfer {
namespace {

using testing::CheckOutput;
using testing::Ints;
using testing::IntsOf;
using testing::KeepingSink;
using testing::Works;

// A worker that calls, and the server that it calls.
struct Bridge {
  explicit Bridge(std::shared_ptr<Engine> engine) {
    server =
        std::make_shared<CallServer>(std::move(engine), lanes,
                                     CallServer::Hooks{[this](const CallTerms& terms, TimeNs) {
                                                         const std::lock_guard<std::mutex> lock(mutex);
                                                         asked = terms;
                                                         return origin;
                                                       },
                                                       [this](const Status& status) { broken.set_value(status); }});
    server->Serve();
    client = CallClient::Make(dup(lanes.calls->fd()), dup(lanes.responses->fd())).value();
  }
  ~Bridge() { server->Stop(); }

  std::shared_ptr<Call> Begin(const std::string& name, CallTerms terms = {}) {
    Request request(nullptr);
    request.model_name = name;
    request.wants_empty_final_response = terms.decoupled;
    request.inputs.push_back({"IN", DType::kInt32, {1, 1}, Ints({7})});
    return client->Start(request, std::move(terms));
  }

  // Of the calls that begin from now on.
  void ComeFrom(std::shared_ptr<Model> model) {
    const std::lock_guard<std::mutex> lock(mutex);
    origin.instance = model->AddInstance();
    origin.model = std::move(model);
  }

  const WorkerLanes lanes = WorkerLanes::Create().value();
  std::mutex mutex;
  CallOrigin origin;
  CallTerms asked;
  std::promise<Status> broken;
  std::shared_ptr<CallServer> server;
  std::shared_ptr<CallClient> client;
};

template <typename Condition>
void Until(const Condition& condition) {
  while (!condition()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

void CheckRefused(const std::shared_ptr<Call>& call, Code code, const std::string& text) {
  const auto item = call->Next();
  CHECK(item && item->final);
  CHECK(item->response.status.code() == code);
  CHECK(item->response.status.message().find(text) != std::string::npos);
  CHECK(!call->Next());
}

TEST(WorkerCalls, AreAnsweredOnceAndThenEnded) {
  Works works;
  works.Part("m");
  Bridge bridge(works.engine);
  const auto call = bridge.Begin("m", {0, false, true, {3, 4}, 3});
  CHECK(!call->Poll());
  Until([&] { return works.pending("m") == 1; });
  CHECK((bridge.asked.parents == std::vector<uint64_t>{3, 4}));
  CHECK(bridge.asked.by_instance);
  CHECK_EQ(bridge.asked.trace, uint64_t{3});
  works.Execute("m", 1);
  const auto item = call->Next();
  CHECK(item && item->final && call->ended());
  CheckOutput(item->response, "OUT", 71);
  CHECK(!call->Next());
}

TEST(WorkerCalls, WhatIsWrongIsAnErrorOfTheAnswer) {
  Works works;
  const auto model = works.Part("m");
  Bridge bridge(works.engine);
  CheckRefused(bridge.Begin("none"), Code::kInternal, "Model none - Error when running inference: Failed for execute");
  ModelSpec many = Works::Spec("many", {"IN"}, {"OUT"});
  many.decoupled = true;
  works.Publish(std::move(many));
  CheckRefused(bridge.Begin("many"), Code::kInternal, "Please use 'decoupled=True'");
  bridge.ComeFrom(model);
  CheckRefused(bridge.Begin("m", {0, false, true, {}, 0}), Code::kInternal, "would wait for ever for model 'm'");
  Bridge alone(nullptr);
  CheckRefused(alone.Begin("m"), Code::kInternal, "there is no server to call models of");
}

TEST(WorkerCalls, FromManyThreadsAndAnEventLoop) {
  Works works;
  works.Identity("i");
  Bridge bridge(works.engine);
  const auto mailbox = std::make_shared<CallMailbox>();
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) CHECK(bridge.Begin("i")->Next()->response.status.ok());
    });
  }
  size_t told = 0;
  for (uint64_t number = 0; number < 100; ++number) {
    const auto call = bridge.Begin("i");
    call->Notify(mailbox, number);
    if (number % 2 == 0) continue;  // the others are let go of: nobody takes their answer
    Until([&] {
      for (const uint64_t collected : mailbox->Collect()) told += collected == number ? 1 : 0;
      return told == (number + 1) / 2;
    });
    CHECK(call->Poll()->response.status.ok());
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(WorkerCalls, AReaderThatIsSlowLosesNothing) {
  Works works;
  ModelSpec many = Works::Spec("many", {"IN"}, {"OUT"});
  many.decoupled = true;
  works.Publish(std::move(many));
  Bridge bridge(works.engine);
  const auto call = bridge.Begin("many", {0, true, false, {}, 0});
  Until([&] { return works.pending("many") == 1; });
  Batch batch = works.Take("many");
  const std::shared_ptr<Responder> responder = batch.Detach(0);
  constexpr int32_t kResponses = 1000;  // far more than there is room for
  for (int32_t i = 0; i < kResponses; ++i) {
    CHECK(responder->Send({{"OUT", DType::kInt32, {1, 1}, Ints({i})}}, {}, false));
  }
  CHECK(responder->End());
  for (int32_t i = 0; i < kResponses; ++i) {
    const auto item = call->Next();
    CHECK(item && !item->final);
    CHECK_EQ(IntsOf(item->response.outputs.at(0).data).at(0), i);
  }
  const auto last = call->Next();
  CHECK(last && last->final && last->response.only_ends);
  CHECK(!call->Next());
}

TEST(WorkerCalls, CanBeCancelled) {
  Works works;
  works.Part("m");
  Bridge bridge(works.engine);
  const auto call = bridge.Begin("m");
  Until([&] { return works.pending("m") == 1; });
  call->Cancel();
  CheckRefused(call, Code::kCancelled, "");
  CHECK_EQ(works.pending("m"), size_t{0});
  call->Cancel();  // of no effect
}

TEST(WorkerCalls, AWorkerThatIsGoneLeavesNoneBehind) {
  Works works;
  const auto caller = works.Part("caller");
  const auto callee = works.Part("m");
  Bridge bridge(works.engine);
  bridge.ComeFrom(caller);
  const auto call = bridge.Begin("m", {0, false, true, {}, 0});
  Until([&] { return works.pending("m") == 1; });
  Batch batch = works.Take("m");  // one is executed, one waits
  const auto other = bridge.Begin("m", {0, false, true, {}, 0});
  Until([&] { return works.pending("m") == 1; });
  bridge.server->End();
  CHECK_EQ(works.pending("m"), size_t{0});
  CHECK(batch.request(0).cancelled());
  // The instance waits for nothing any more: what calls it is not refused.
  auto back = std::make_shared<LocalCall>(works.engine);
  auto request = std::make_unique<Request>(back);
  request->model_name = "caller";
  request->inputs.push_back({"IN", DType::kInt32, {1, 1}, Ints({7})});
  CallOrigin origin;
  origin.model = callee;
  origin.instance = callee->AddInstance();
  back->Start(std::move(request), origin, false);
  CHECK(!back->ended());
  works.Execute("caller", 1);
  CHECK(back->Next()->response.status.ok());
  Works::Respond(batch, 0, {1});
  batch.Finish();
}

// What a worker writes that is not one of ours.
void Write(LaneWriter& writer, const MessageWriter& message) {
  uint8_t* const at = writer.Allocate(message.size()).value();
  message.Write(at);
  CHECK(writer.TrySend(at, message.size()));
}

TEST(WorkerCalls, NonsenseIsNotBelieved) {
  Works works;
  works.Part("m");
  Request request(nullptr);
  request.model_name = "m";
  for (int which = 0; which < 4; ++which) {
    Bridge bridge(works.engine);
    LaneWriter writer(bridge.lanes.calls);
    MessageWriter message(which == 0 ? MessageKind::kBatch : which == 1 ? MessageKind::kCancel : MessageKind::kCall);
    if (which == 2) message.Number(uint64_t{1});      // and then nothing
    if (which == 3) WriteCall(message, {}, request);  // no number
    Write(writer, message);
    CHECK(!bridge.broken.get_future().get().ok());
    CHECK_EQ(works.pending("m"), size_t{0});
  }
}

}  // namespace
}  // namespace pyinfer
