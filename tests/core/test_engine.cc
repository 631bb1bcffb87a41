// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "engine/engine.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using std::chrono::seconds;
using testing::IntModel;
using testing::Ints;
using testing::KeepingSink;
using testing::SinkPtr;

RequestPtr Ask(SinkPtr sink, int64_t rows = 1, int64_t version = -1) {
  auto request = std::make_unique<Request>(std::move(sink));
  request->model_name = "m";
  request->model_version = version;
  request->inputs.push_back({"IN", DType::kInt32, {rows, 1}, Ints(std::vector<int32_t>(static_cast<size_t>(rows), 7))});
  return request;
}

struct House {
  explicit House(std::shared_ptr<const Clock> clock = std::make_shared<SystemClock>()) : engine(std::move(clock)) {}

  std::shared_ptr<Model> Make(int64_t version, int instances, ExecutorParameters parameters = {},
                              BatchOptions options = {8, true, {}, 0}) {
    std::shared_ptr<Model> model = engine.CreateModel(IntModel(std::move(options), version));
    if (instances != 0) {
      CHECK(model->StartNative("identity", parameters, std::vector<std::string>(static_cast<size_t>(instances), "i"))
                .ok());
    }
    models.push_back(model);
    return model;
  }
  ~House() {
    for (const auto& model : models) model->Stop();
  }

  SinkPtr Submit(int64_t rows = 1, int64_t version = -1) {
    auto sink = std::make_shared<KeepingSink>();
    engine.Submit(Ask(sink, rows, version));
    return sink;
  }

  Engine engine;
  std::vector<std::shared_ptr<Model>> models;
};

void CheckAnswer(const SinkPtr& sink, Code code, std::string_view message = "") {
  CHECK_EQ(sink->answers.load(), 1);
  CHECK_EQ(sink->message(), message);
  CHECK(sink->code() == code);
}

TEST(Engine, FindsModels) {
  House house;
  CheckAnswer(house.Submit(), Code::kNotFound, "Request for unknown model: 'm' is not found");
  house.engine.Publish("m", {}, {3});
  CheckAnswer(house.Submit(), Code::kNotFound, "Request for unknown model: 'm' has no available versions");
  CheckAnswer(house.Submit(1, 3), Code::kUnavailable, "Request for unknown model: 'm' version 3 is not at ready state");
  CheckAnswer(house.Submit(1, 4), Code::kNotFound, "Request for unknown model: 'm' version 4 is not found");
  house.engine.Publish("m", {house.Make(2, 1), house.Make(10, 1)}, {});
  Request request(std::make_shared<KeepingSink>());
  request.model_name = "m";
  CHECK(house.engine.Resolve(request).ok());
  CHECK_EQ(request.model->version, int64_t{10});
  request.model_version = 2;
  CHECK(house.engine.Resolve(request).ok());
  CHECK_EQ(request.model->version, int64_t{2});
  house.engine.Withdraw("m");
  house.engine.Withdraw("m");
  CHECK(house.engine.Resolve(request).code() == Code::kNotFound);
}

TEST(Engine, RunsNativeModels) {
  House house;
  const auto model = house.Make(1, 1);
  house.engine.Publish("m", {model}, {});
  std::vector<SinkPtr> sinks;
  for (int i = 0; i < 3; ++i) sinks.push_back(house.Submit());
  house.engine.Dispatch();
  CHECK(model->Drain(seconds(60)));
  model->Stop();
  for (const SinkPtr& sink : sinks) CheckAnswer(sink, Code::kOk);
  CHECK_EQ(house.engine.in_flight(), size_t{0});
  const ModelStatistics statistics = model->Statistics();
  uint64_t executions = 0;
  for (const auto& [rows, batch] : statistics.batches) executions += batch.compute_infer.count;
  CHECK_EQ(statistics.execution_count, executions);
  CHECK_EQ(statistics.inference_count, uint64_t{3});
  CHECK_EQ(statistics.success.count, uint64_t{3});
}

TEST(Engine, RefusesWhatIsNotValid) {
  House house;
  const auto model = house.Make(1, 1);
  house.engine.Publish("m", {model}, {});
  CheckAnswer(house.Submit(9), Code::kInvalidArg,
              "[request id: <id_unknown>] inference request batch-size must be <= 8 for 'm'");
  CHECK_EQ(house.engine.in_flight(), size_t{0});
}

TEST(Engine, StopsAccepting) {
  House house;
  house.engine.Publish("m", {house.Make(1, 1)}, {});
  house.engine.StopAccepting();
  CheckAnswer(house.Submit(), Code::kUnavailable,
              "Server is stopping, scheduler for model has stopped accepting new inference requests");
}

TEST(Engine, AnswersTheCancelledAtDispatch) {
  const auto clock = std::make_shared<ManualClock>(1);
  House house(clock);
  const auto model = house.Make(1, 0, {}, {8, true, {}, 1000});
  house.engine.Publish("m", {model}, {});
  const SinkPtr cancelled = house.Submit();
  const SinkPtr other = house.Submit();
  house.engine.Dispatch();
  cancelled->cancel = true;
  house.engine.Dispatch();
  CHECK_EQ(cancelled->answers.load(), 0);
  house.engine.NoteCancellation();
  house.engine.Dispatch();
  CheckAnswer(cancelled, Code::kCancelled);
  CHECK_EQ(other->answers.load(), 0);
  CHECK_EQ(model->Statistics().failures[static_cast<size_t>(FailureReason::kCancelled)], uint64_t{1});
}

TEST(Engine, WhatWaitsAtAReplacedModelIsCancelledAndExpires) {
  const auto clock = std::make_shared<ManualClock>(1'000'000);
  House house(clock);
  ModelSpec spec = IntModel({8, true, {}, 0});
  spec.queue.default_policy.default_timeout_ns = 5000;
  house.models.push_back(house.engine.CreateModel(std::move(spec)));
  house.engine.Publish("m", {house.models.back()}, {});
  const SinkPtr late = house.Submit();
  const SinkPtr cancelled = house.Submit();
  house.engine.Publish("m", {house.Make(2, 0)}, {});
  cancelled->cancel = true;
  house.engine.NoteCancellation();
  house.engine.Dispatch();
  CheckAnswer(cancelled, Code::kCancelled);
  clock->Advance(5000);
  house.engine.Dispatch();
  CheckAnswer(late, Code::kUnavailable, "Request timeout expired");
}

TEST(Engine, ATimelineMakesTheStatistics) {
  const auto clock = std::make_shared<ManualClock>(1'000'000);
  House house(clock);
  const auto model = house.Make(1, 0);
  house.engine.Publish("m", {model}, {});
  auto sink = std::make_shared<KeepingSink>();
  RequestPtr request = Ask(sink, 2);
  request->timeline.received = clock->Now();
  clock->Advance(10'999);
  house.engine.Submit(std::move(request));
  clock->Advance(20'000);
  Batch batch = model->TakeNow(0);
  clock->Advance(30'000);
  batch.MarkPacked();
  clock->Advance(40'000);
  batch.RespondPacked({{"OUT", DType::kInt32, {2, 1}, Ints({1, 2})}});
  clock->Advance(50'000);
  batch.Finish();
  const ModelStatistics s = model->Statistics();
  CHECK_EQ(s.success.ns, uint64_t{150'999});
  CHECK_EQ(s.queue.ns, uint64_t{20'000});
  CHECK_EQ(s.compute_input.ns, uint64_t{30'000});
  CHECK_EQ(s.compute_infer.ns, uint64_t{40'000});
  CHECK_EQ(s.compute_output.ns, uint64_t{50'000});
  CHECK_EQ(s.request_us, uint64_t{150});
  CHECK_EQ(s.inference_count, uint64_t{2});
  CHECK_EQ(s.batches.at(2).compute_infer.ns, uint64_t{40'000});
}

TEST(Model, NativeParameters) {
  House house;
  const auto refused = [&house](const std::string& kind, const ExecutorParameters& parameters, std::string_view text) {
    const Status status = house.Make(1, 0)->StartNative(kind, parameters, {"i"});
    CHECK(status.code() == Code::kInvalidArg);
    CHECK_EQ(status.message(), text);
  };
  refused("none", {}, "there is no native executor 'none'");
  refused("identity", {{"x", "1"}}, "unknown parameter 'x' of backend 'identity'");
  for (const std::string bad : {"", "-1", "1s", "99999999999999999999"}) {
    refused("identity", {{"execute_delay_ms", bad}},
            "parameter 'execute_delay_ms' must be a non-negative integer, got '" + bad + "'");
  }
  ModelSpec spec = IntModel({8, true, {}, 0});
  spec.outputs.clear();
  const auto model = house.engine.CreateModel(std::move(spec));
  CHECK_EQ(model->StartNative("identity", {}, {"i"}).message(),
           "an identity model must have as many outputs as inputs: 'm' has 1 inputs and 0 outputs");
}

TEST(Model, DrainsAndStops) {
  House house;
  const auto slow = house.Make(1, 2, {{"execute_delay_ms", "20"}}, {1, false, {}, 0});
  house.engine.Publish("m", {slow}, {});
  std::vector<SinkPtr> sinks;
  for (int i = 0; i < 6; ++i) sinks.push_back(house.Submit());
  house.engine.Dispatch();
  CHECK(!slow->Drain(std::chrono::nanoseconds(1)));
  CheckAnswer(house.Submit(), Code::kUnavailable,
              "Server is stopping, scheduler for model has stopped accepting new inference requests");
  CHECK(slow->Drain(seconds(60)));
  slow->Stop();
  slow->Stop();
  for (const SinkPtr& sink : sinks) CheckAnswer(sink, Code::kOk);
  CHECK(slow->Drain(seconds(0)));
}

TEST(Model, StopAnswersWhatIsQueued) {
  House house;
  const auto model = house.Make(1, 0);
  house.engine.Publish("m", {model}, {});
  const SinkPtr sink = house.Submit();
  CHECK_EQ(model->pending(), size_t{1});
  model->Stop();
  CheckAnswer(sink, Code::kUnavailable, "the model 'm' is being unloaded");
  CHECK(model->NextBatch(0).empty());
  CHECK_EQ(model->pending(), size_t{0});
}

TEST(Model, StopAnswersWhatNoInstanceWasAskedFor) {
  House house;
  house.engine.Publish("m", {house.Make(1, 0)}, {});
  std::thread waiting([&house] {
    while (!house.models[0]->NextBatch(0).empty()) continue;
  });
  const SinkPtr sink = house.Submit();
  house.models[0]->Stop();
  waiting.join();
  CHECK_EQ(sink->answers.load(), 1);
}

// Versions are replaced while four threads submit: nothing is refused, lost or answered twice.
TEST(Engine, ReplacesModelsUnderLoad) {
  constexpr int kThreads = 4;
  constexpr int kEach = 1500;
  House house;
  house.engine.Publish("m", {house.Make(1, 1)}, {});
  std::vector<std::vector<SinkPtr>> sinks(kThreads);
  std::vector<std::thread> threads;
  std::atomic<int> running{kThreads};
  for (auto& mine : sinks) {
    threads.emplace_back([&house, &mine, &running] {
      for (int i = 0; i < kEach; ++i) {
        mine.push_back(house.Submit(1 + i % 3));
        if (i % 5 == 0) house.engine.Dispatch();
      }
      house.engine.Dispatch();
      running.fetch_sub(1);
    });
  }
  for (int64_t version = 2; running.load() != 0; ++version) {
    const auto old = house.models.back();
    const int instances = 1 + static_cast<int>(version % 2);
    house.engine.Publish("m", {house.Make(version, instances)}, {});
    CHECK(old->Drain(seconds(60)));
    old->Stop();
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(house.models.back()->Drain(seconds(60)));
  house.models.back()->Stop();
  for (const auto& mine : sinks) {
    for (const SinkPtr& sink : mine) CheckAnswer(sink, Code::kOk);
  }
  uint64_t counted = 0;
  for (const auto& model : house.models) counted += model->Statistics().success.count;
  CHECK_EQ(counted, uint64_t{kThreads * kEach});
}

// The number of instances changes while requests come: nothing is lost, refused or answered twice.
TEST(Model, ChangesItsInstancesUnderLoad) {
  constexpr int kRequests = 6000;
  House house;
  const ExecutorParameters slow = {{"execute_delay_ms", "1"}};
  const auto model = house.Make(1, 1, slow, {64, true, {}, 0});
  house.engine.Publish("m", {model}, {});
  std::vector<SinkPtr> sinks;
  std::atomic<bool> running{true};
  std::thread changing([&] {
    for (size_t count = 1; running.load(); count = count % 4 + 1) {
      CHECK(model->StartNative("identity", slow, std::vector<std::string>(count, "i")).ok());
    }
  });
  for (int i = 0; i < kRequests; ++i) {
    sinks.push_back(house.Submit());
    if (i % 3 == 0) house.engine.Dispatch();
  }
  house.engine.Dispatch();
  CHECK(model->Drain(seconds(60)));
  running.store(false);
  changing.join();
  model->Stop();
  CHECK_EQ(model->StartNative("identity", slow, {"i"}).message(), "the model 'm' is stopped");
  for (const SinkPtr& sink : sinks) CheckAnswer(sink, Code::kOk);
}

// An instance that leaves takes no batch any more, and hands on the wake-up that was meant for a request.
TEST(Model, LeavingInstanceWakesAnother) {
  for (int round = 0; round < 300; ++round) {
    House house;
    const auto model = house.Make(1, 0);
    house.engine.Publish("m", {model}, {});
    const auto serve = [&model](size_t instance) {
      for (Batch batch = model->NextBatch(instance); !batch.empty(); batch = model->NextBatch(instance)) {
        batch.Fail(0, Status::Internal("by hand"));
      }
    };
    const size_t first = model->AddInstance();
    std::thread leaver(serve, first);
    std::thread stayer(serve, model->AddInstance());
    const SinkPtr sink = house.Submit();
    house.engine.Dispatch();
    model->RemoveInstance(first);
    leaver.join();
    const bool drained = model->Drain(seconds(60));
    model->Stop();
    stayer.join();
    CHECK(drained);
    CHECK_EQ(sink->answers.load(), 1);
    CHECK_EQ(sink->message(), "by hand");
  }
}

TEST(Engine, RefusesANameAsItIsTold) {
  House house;
  const auto model = house.Make(1, 1);
  house.engine.Publish("m", {model}, {2}, Status::InvalidArg("which one?"));
  CheckAnswer(house.Submit(), Code::kInvalidArg, "which one?");
  CheckAnswer(house.Submit(1, 2), Code::kInvalidArg, "which one?");
  house.engine.Publish("m", {model}, {});
  const SinkPtr sink = house.Submit();
  house.engine.Dispatch();
  CHECK(model->Drain(seconds(60)));
  CheckAnswer(sink, Code::kOk);
}

// Submitting, cancelling, stopping, quick and slow instances at the same time: each request gets one answer.
TEST(Engine, AnswersOnceUnderRandomCancellation) {
  constexpr int kThreads = 4;
  constexpr int kEach = 1500;
  House house;
  BatchOptions options{8, true, {4}, 200'000};
  const auto model = house.Make(1, 2, {}, options);
  house.engine.Publish("m", {model}, {});
  std::vector<std::vector<SinkPtr>> sinks(kThreads);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&house, &mine = sinks[t], t] {
      std::minstd_rand random(t);
      for (int i = 0; i < kEach; ++i) {
        mine.push_back(house.Submit(1 + static_cast<int64_t>(random() % 8)));
        if (random() % 4 == 0) {
          mine[random() % mine.size()]->cancel = true;
          house.engine.NoteCancellation();
        }
        if (random() % 3 == 0) house.engine.Dispatch();
      }
    });
  }
  std::thread puller([&model] {
    for (Batch batch = model->NextBatch(0); !batch.empty(); batch = model->NextBatch(0)) {
      batch.Fail(0, Status::Internal("by hand"));
    }
  });
  for (std::thread& thread : threads) thread.join();
  house.engine.Dispatch();
  CHECK(model->Drain(seconds(60)));
  model->Stop();
  puller.join();
  uint64_t ok = 0;
  uint64_t failed = 0;
  for (const auto& mine : sinks) {
    for (const SinkPtr& sink : mine) {
      CHECK_EQ(sink->answers.load(), 1);
      ++(sink->response.status.ok() ? ok : failed);
    }
  }
  const ModelStatistics statistics = model->Statistics();
  CHECK_EQ(statistics.success.count, ok);
  CHECK_EQ(statistics.fail.count, failed);
  CHECK_EQ(model->in_flight(), size_t{0});
  CHECK_EQ(model->pending(), size_t{0});
}

}  // namespace
}  // namespace pyinfer
