// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "engine/kept_response.h"
#include "engine/model.h"
#include "engine/remote_cache.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::IntModel;
using testing::IntRequest;
using testing::Ints;
using testing::IntsOf;
using testing::KeepingSink;
using testing::SinkPtr;

Slice Bytes(const std::string& text) { return Slice::Copy(text.data(), text.size()); }

Response TwoOutputs() {
  const std::string texts("\3\0\0\0abc\0\0\0\0", 11);
  Response response;
  response.outputs.push_back({"OUT", DType::kInt32, {1, 2}, Ints({7, 8})});
  response.outputs.push_back({"TEXT", DType::kBytes, {2}, Bytes(texts)});
  return response;
}

TEST(KeptResponse, ThereAndBack) {
  const std::optional<Response> back = DecodeResponse(Bytes(EncodeResponse(TwoOutputs()).value()));
  CHECK(back && back->status.ok());
  CHECK_EQ(back->outputs.size(), size_t{2});
  for (size_t i = 0; i < 2; ++i) {
    const Tensor& is = back->outputs[i];
    const Response given = TwoOutputs();
    CHECK_EQ(is.name, given.outputs[i].name);
    CHECK(is.dtype == given.outputs[i].dtype && is.shape == given.outputs[i].shape && is.shared);
    CHECK_EQ(is.data.view(), given.outputs[i].data.view());
  }
  Response with_parameters = TwoOutputs();
  with_parameters.parameters.emplace_back("a", true);
  CHECK(!EncodeResponse(with_parameters));
}

// Whatever lies in the cache is a response or it is not; what is read stays within the bytes (as sanitizers see).
TEST(KeptResponse, AnyBytesAreAResponseOrNone) {
  const std::string good = EncodeResponse(TwoOutputs()).value();
  for (size_t size = 0; size < good.size(); ++size) CHECK(!DecodeResponse(Bytes(good.substr(0, size))));
  CHECK(!DecodeResponse(Bytes(good + '\0')));
  std::mt19937 random(1);
  for (int round = 0; round < 200'000; ++round) {
    std::string bytes = good;
    for (size_t changes = 1 + random() % 3; changes != 0; --changes) {
      // Lengths are hit most by bytes that are almost nothing, or all there is.
      const char values[] = {'\0', '\1', '\x7f', '\xff', static_cast<char>(random())};
      bytes[random() % bytes.size()] = values[random() % 5];
    }
    const std::optional<Response> read = DecodeResponse(Bytes(bytes));
    if (!read) continue;
    for (const Tensor& output : read->outputs) {
      CHECK(output.dtype != DType::kInvalid);
      if (output.dtype != DType::kBytes) CHECK(ByteSize(output.dtype, output.shape) == output.data.size());
    }
    CHECK(EncodeResponse(*read) == bytes);  // there is one way to write each response
  }
}

TEST(KeptResponse, IsTheAnswerOfItsModelOrNone) {
  const auto model = testing::Shared(IntModel({8, true, {}, 0}));
  const RequestPtr request = IntRequest(model, std::make_shared<KeepingSink>(), 2, 1);
  const auto fits = [&](std::vector<Tensor> outputs) {
    Response response;
    response.outputs = std::move(outputs);
    return AnswersRequest(*request, response);
  };
  CHECK(fits({{"OUT", DType::kInt32, {2, 1}, Ints({1, 2})}}));
  CHECK(fits({{"OUT", DType::kInt32, {2, 3}, Ints({1, 2, 3, 4, 5, 6})}}));
  CHECK(!fits({}));
  CHECK(!fits({{"OUT", DType::kInt32, {1, 1}, Ints({1})}}));       // another batch size
  CHECK(!fits({{"OUT", DType::kFp32, {2, 1}, Ints({1, 2})}}));     // another data type
  CHECK(!fits({{"OUT", DType::kInt32, {2}, Ints({1, 2})}}));       // another rank
  CHECK(!fits({{"OTHER", DType::kInt32, {2, 1}, Ints({1, 2})}}));  // another output
  CHECK(!fits({{"OUT", DType::kInt32, {2, 1}, Ints({1, 2})}, {"OUT", DType::kInt32, {2, 1}, Ints({1, 2})}}));
  request->Answer(Response());
}

RemoteCache::Limits Patient() {
  RemoteCache::Limits limits;
  limits.patience = 3600 * TimeNs{1'000'000'000};
  return limits;
}

// A cached model of one instance, and the other side of its cache.
struct Fixture {
  explicit Fixture(const RemoteCache::Limits& limits = Patient(), QueueOptions queue = {})
      : cache(std::make_shared<RemoteCache>(limits)) {
    ModelSpec spec = IntModel({8, true, {1}, 0});
    spec.cached = true;
    spec.queue = std::move(queue);
    model = Model::Create(std::move(spec), clock, cache, "files");
    model->AddInstance();
  }
  ~Fixture() {
    cache->Close();
    model->Stop();
  }

  SinkPtr Ask(int32_t value) {
    auto sink = std::make_shared<KeepingSink>();
    model->Push(IntRequest(model->spec(), sink, 1, 1, value));
    model->Dispatch();
    return sink;
  }
  std::vector<RemoteCache::Job> Jobs() { return cache->Take(std::chrono::seconds(0), 100); }
  // The value that is executed; nothing where none waits.
  std::optional<int32_t> Execute() {
    Batch batch = model->TakeNow(0);
    if (batch.empty()) return std::nullopt;
    const int32_t given = IntsOf(batch.request(0).inputs[0].data).at(0);
    batch.RespondPacked({{"OUT", DType::kInt32, {1, 1}, Ints({given * 10})}});
    batch.Finish();
    return given;
  }

  std::shared_ptr<ManualClock> clock = std::make_shared<ManualClock>(1000);
  std::shared_ptr<RemoteCache> cache;
  std::shared_ptr<Model> model;
};

TEST(RemoteCache, AMissIsExecutedAndKeptAndAHitIsNot) {
  Fixture f;
  const SinkPtr first = f.Ask(4);
  CHECK(!f.Execute());  // it waits for the cache
  std::vector<RemoteCache::Job> jobs = f.Jobs();
  CHECK_EQ(jobs.size(), size_t{1});
  const std::string key = jobs[0].key;
  CHECK(!jobs[0].value);
  f.clock->Advance(500);
  f.cache->Answer(jobs[0].id, std::nullopt);
  CHECK_EQ(f.Execute().value(), 4);
  CHECK_EQ(IntsOf(first->response.outputs.at(0).data).at(0), 40);
  jobs = f.Jobs();
  CHECK_EQ(jobs.size(), size_t{1});
  CHECK(jobs[0].value && jobs[0].key == key);
  const std::string kept = *jobs[0].value;

  const SinkPtr second = f.Ask(4);
  jobs = f.Jobs();
  CHECK(jobs.size() == 1 && jobs[0].key == key);
  f.clock->Advance(300);
  f.cache->Answer(jobs[0].id, Bytes(kept));
  f.cache->Answer(jobs[0].id, Bytes(kept));  // once more is no more
  CHECK_EQ(second->answers.load(), 1);
  CHECK_EQ(IntsOf(second->response.outputs.at(0).data).at(0), 40);
  CHECK(!f.Execute());
  const ModelStatistics statistics = f.model->Statistics();
  CHECK_EQ(statistics.cache_hit.count, uint64_t{1});
  CHECK_EQ(statistics.cache_hit.ns, uint64_t{300});
  CHECK_EQ(statistics.cache_miss.count, uint64_t{1});
  CHECK_EQ(statistics.success.count, uint64_t{2});
}

TEST(RemoteCache, WhatIsNoAnswerIsAMiss) {
  Fixture f;
  Response other;
  other.outputs.push_back({"OUT", DType::kInt32, {2, 1}, Ints({1, 2})});  // of a request of two rows
  for (const std::string& bytes : {std::string(), std::string("garbage"), EncodeResponse(other).value()}) {
    const SinkPtr sink = f.Ask(5);
    f.cache->Answer(f.Jobs().at(0).id, Bytes(bytes));
    CHECK_EQ(sink->answers.load(), 0);
    CHECK_EQ(f.Execute().value(), 5);
    CHECK(sink->answers.load() == 1 && sink->response.status.ok());
    CHECK_EQ(f.Jobs().size(), size_t{1});  // the right one takes its place
  }
  CHECK_EQ(f.model->Statistics().cache_miss.count, uint64_t{3});
}

TEST(RemoteCache, UnreachableOrClosedItIsNotAsked) {
  Fixture f;
  const SinkPtr waiting = f.Ask(1);
  f.cache->SetReachable(false);
  CHECK_EQ(f.Execute().value(), 1);  // it was a miss at once
  CHECK_EQ(waiting->answers.load(), 1);
  const SinkPtr not_asked = f.Ask(2);
  CHECK_EQ(f.Execute().value(), 2);
  CHECK(f.Jobs().empty());
  f.cache->SetReachable(true);
  f.Ask(3);
  CHECK_EQ(f.Jobs().size(), size_t{1});
  f.cache->Close();
  CHECK_EQ(f.Execute().value(), 3);
  f.Ask(4);
  CHECK_EQ(f.Execute().value(), 4);
}

TEST(RemoteCache, PatienceEndsAndMakesItUnreachable) {
  RemoteCache::Limits limits;
  limits.patience = 1'000'000;
  Fixture f(limits);
  const SinkPtr sink = f.Ask(1);
  while (!f.Execute()) std::this_thread::yield();
  CHECK_EQ(sink->answers.load(), 1);
  CHECK(!f.cache->reachable());
  CHECK(f.Jobs().empty());
}

TEST(RemoteCache, ItsLimits) {
  RemoteCache::Limits limits = Patient();
  limits.most_lookups = 2;
  limits.most_entry_bytes = 64;
  Fixture f(limits);
  for (int32_t value = 0; value < 3; ++value) f.Ask(value);
  CHECK_EQ(f.Execute().value(), 2);  // the third one is not asked for
  CHECK_EQ(f.cache->Take(std::chrono::seconds(0), 2).size(), size_t{2});
  CHECK_EQ(f.Jobs().size(), size_t{1});  // its answer is small enough to be kept
  Response large;
  large.outputs.push_back({"OUT", DType::kInt32, {1, 100}, Ints(std::vector<int32_t>(100))});
  f.cache->Insert("k", large);
  CHECK(f.Jobs().empty());
}

TEST(RemoteCache, WhoWaitsForItIsCancelledAndExpires) {
  QueueOptions queue;
  queue.default_policy.default_timeout_ns = 1000;
  Fixture f(Patient(), queue);
  const SinkPtr cancelled = f.Ask(1);
  cancelled->cancel = true;
  f.model->Reap();
  CHECK(cancelled->code() == Code::kCancelled && cancelled->answers == 1);
  f.cache->Answer(f.Jobs().at(0).id, std::nullopt);
  CHECK_EQ(cancelled->answers.load(), 1);
  const SinkPtr expired = f.Ask(2);
  // The engine is to look again at the deadline of what is on its way.
  CHECK_EQ(f.model->Expire(f.clock->Now()), f.clock->Now() + 1000);
  f.clock->Advance(1000);
  CHECK_EQ(f.model->Expire(f.clock->Now()), TimeNs{0});
  CHECK_EQ(expired->message(), "Request timeout expired");
  f.cache->Answer(f.Jobs().at(0).id, std::nullopt);
  CHECK_EQ(expired->answers.load(), 1);
  CHECK(!f.Execute());
}

TEST(RemoteCache, ADrainWaitsForWhatIsOnItsWay) {
  Fixture f;
  const SinkPtr sink = f.Ask(1);
  std::thread drain([&] { CHECK(f.model->Drain(std::chrono::seconds(60))); });
  while (f.model->in_flight() != 1) std::this_thread::yield();
  f.cache->Answer(f.Jobs().at(0).id, std::nullopt);
  while (!f.Execute()) std::this_thread::yield();
  drain.join();
  CHECK(sink->answers.load() == 1 && sink->response.status.ok());
}

TEST(RemoteCache, OnlyForModelsThatEveryProcessKnows) {
  for (const std::string origin : {"", "files"}) {
    ModelSpec spec = IntModel({8, true, {}, 0});
    spec.cached = true;
    const auto model = Model::Create(std::move(spec), std::make_shared<ManualClock>(1),
                                     std::make_shared<RemoteCache>(Patient()), origin);
    CHECK_EQ(model->cached(), !origin.empty());
    model->Stop();
  }
}

// Lookups, answers, failures and the end of patience from all sides: each request is answered once.
TEST(RemoteCache, Storm) {
  RemoteCache::Limits limits;
  limits.patience = 200'000;
  limits.most_lookups = 64;
  Fixture f(limits);
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (int client = 0; client < 2; ++client) {
    threads.emplace_back([&, client] {
      std::mt19937 random(static_cast<unsigned>(client));
      std::string kept;
      while (!done.load()) {
        for (const RemoteCache::Job& job : f.cache->Take(std::chrono::milliseconds(1), 8)) {
          if (job.value) kept = *job.value;
          if (job.value || random() % 4 == 0) continue;
          f.cache->Answer(job.id, random() % 2 == 0 ? std::optional<Slice>(Bytes(kept)) : std::nullopt);
        }
        f.cache->SetReachable(random() % 16 != 0);
      }
    });
  }
  threads.emplace_back([&] {
    while (!done.load()) {
      if (!f.Execute()) std::this_thread::yield();
    }
  });
  std::vector<SinkPtr> sinks;
  for (int32_t i = 0; i < 3000; ++i) sinks.push_back(f.Ask(i % 7));
  while (f.model->in_flight() != 0) std::this_thread::yield();
  done.store(true);
  for (std::thread& thread : threads) thread.join();
  for (const SinkPtr& sink : sinks) CHECK(sink->answers.load() == 1 && sink->response.status.ok());
}

}  // namespace
}  // namespace pyinfer
