// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "engine/model.h"
#include "engine/response_cache.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::IntModel;
using testing::IntRequest;
using testing::Ints;
using testing::IntsOf;
using testing::KeepingSink;
using testing::SinkPtr;

Response Answer(std::vector<int32_t> values) {
  Response response;
  const auto count = static_cast<int64_t>(values.size());
  response.outputs.push_back({"OUT", DType::kInt32, {count}, Ints(values)});
  return response;
}

std::vector<int32_t> Found(LocalCache& cache, const std::string& key) {
  const std::optional<Response> response = cache.Find(key);
  return response ? IntsOf(response->outputs.at(0).data) : std::vector<int32_t>();
}

TEST(LocalCache, KeepsWhatWasAskedForLast) {
  LocalCache small(1);
  small.Insert("a", Answer({1}));
  CHECK_EQ(small.size(), size_t{0});  // it does not fit at all
  LocalCache cache(3 * 450);
  for (const char* key : {"a", "b", "c"}) cache.Insert(key, Answer({key[0], 0}));
  CHECK_EQ(cache.size(), size_t{3});
  CHECK(Found(cache, "a") == (std::vector<int32_t>{'a', 0}));
  cache.Insert("d", Answer({'d', 0}));
  CHECK(Found(cache, "b").empty());
  for (const char* key : {"a", "c", "d"}) CHECK(Found(cache, key) == (std::vector<int32_t>{key[0], 0}));
  CHECK(cache.bytes() <= 3 * 450);
  cache.Insert("e", Answer(std::vector<int32_t>(200, 5)));  // as much as all the others
  CHECK_EQ(cache.size(), size_t{1});
  CHECK_EQ(Found(cache, "e").size(), size_t{200});
}

TEST(LocalCache, TheFirstAnswerOfAKeyStays) {
  LocalCache cache(1 << 20);
  cache.Insert("a", Answer({1}));
  const size_t bytes = cache.bytes();
  cache.Insert("a", Answer({2}));
  CHECK(Found(cache, "a") == (std::vector<int32_t>{1}));
  CHECK_EQ(cache.bytes(), bytes);
}

TEST(LocalCache, HoldsNoOtherMemory) {
  LocalCache cache(1 << 20);
  BufferPtr large = Buffer::Allocate(1 << 16);
  const std::weak_ptr<Buffer> watched = large;
  Response response;
  response.outputs.push_back({"OUT", DType::kInt32, {1}, Slice(std::move(large), 0, 4)});
  cache.Insert("a", response);
  response.outputs.clear();
  CHECK(watched.expired());
  const std::optional<Response> kept = cache.Find("a");
  LocalCache(1 << 20).Insert("b", *kept);
  CHECK_EQ(kept->outputs.at(0).data.size(), size_t{4});
}

TEST(LocalCache, AMillionKeysTakeNoMoreThanItsLimit) {
  constexpr size_t kLimit = 1 << 20;
  LocalCache cache(kLimit);
  size_t most = 0;
  for (int32_t key = 0; key < 1'000'000; ++key) {
    cache.Insert(std::to_string(key), Answer({key}));
    most = std::max(most, cache.bytes());
  }
  CHECK(most <= kLimit && cache.bytes() > kLimit - 1024);
  CHECK(Found(cache, "0").empty());
  CHECK(Found(cache, "999999") == (std::vector<int32_t>{999'999}));
}

TEST(LocalCache, ManyThreads) {
  LocalCache cache(20000);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&cache, thread] {
      for (int i = 0; i < 2000; ++i) {
        const int32_t number = (i * 7 + thread) % 100;
        const std::vector<int32_t> found = Found(cache, std::to_string(number));
        if (!found.empty()) CHECK_EQ(found.at(0), number);
        cache.Insert(std::to_string(number), Answer({number}));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(cache.bytes() <= 20000);
}

TEST(CacheKey, IsOfAllThatAnAnswerDependsOn) {
  ModelSpec spec = IntModel({8, true, {}, 0});
  spec.inputs.push_back({"SECOND", DType::kInt32, {-1}, {}, true});
  const auto model = testing::Shared(std::move(spec));
  const auto other = testing::Shared(IntModel({8, true, {}, 0}, 2));
  std::vector<RequestPtr> requests;
  const auto add = [&](auto change) {
    requests.push_back(IntRequest(model, std::make_shared<KeepingSink>(), 1, 4, 1));
    change(*requests.back());
  };
  add([](Request&) {});
  add([&](Request& request) { request.model = other; });
  add([](Request& request) { request.inputs[0].data = Ints({1, 1, 1, 2}); });
  add([](Request& request) { request.inputs[0].shape = {2, 2}; });
  add([](Request& request) { request.inputs[0].dtype = DType::kUint32; });
  add([](Request& request) { request.inputs[0].name = "SECOND"; });
  add([](Request& request) { request.requested_outputs = {{"OUT"}}; });
  add([](Request& request) { request.parameters = {{"p", int64_t{1}}}; });
  add([](Request& request) { request.parameters = {{"p", uint64_t{1}}}; });
  add([](Request& request) { request.parameters = {{"p", true}}; });
  add([](Request& request) { request.parameters = {{"p", std::string("1")}}; });
  add([](Request& request) { request.correlation_id.number = 1; });
  add([](Request& request) { request.correlation_id.text = "1"; });
  add([](Request& request) { request.flags = 1; });
  std::set<std::string> keys;
  for (const RequestPtr& request : requests) keys.insert(CacheKey(*request, "1").value());
  CHECK_EQ(keys.size(), requests.size());
  CHECK(CacheKey(*requests[0], "1") != CacheKey(*requests[0], "2"));
  add([](Request& request) {
    request.id = "7";
    request.priority = 2;
    request.timeout_us = 5;
  });
  CHECK(CacheKey(*requests.back(), "1") == CacheKey(*requests.front(), "1"));
  requests.back()->uses_shared_memory = true;
  CHECK(!CacheKey(*requests.back(), "1"));
}

// A cached model of one instance.
struct Fixture {
  explicit Fixture(bool cached = true, bool ordered = false) {
    ModelSpec spec = IntModel({8, true, {1}, 0});
    spec.cached = cached;
    spec.batching.preserve_ordering = ordered;
    model = Model::Create(std::move(spec), clock, cache);
    model->AddInstance();
  }
  ~Fixture() { model->Stop(); }

  SinkPtr Ask(int32_t value) {
    auto sink = std::make_shared<KeepingSink>();
    model->Push(IntRequest(model->spec(), sink, 1, 1, value));
    return sink;
  }

  bool Execute(bool fails = false) {
    Batch batch = model->TakeNow(0);
    if (batch.empty()) return false;
    const std::vector<int32_t> given = IntsOf(batch.request(0).inputs[0].data);
    clock->Advance(1000);
    if (!fails) batch.RespondPacked({{"OUT", DType::kInt32, {1, 1}, Ints({given.at(0) * 10})}});
    batch.Finish();
    return true;
  }

  std::shared_ptr<ManualClock> clock = std::make_shared<ManualClock>(1000);
  std::shared_ptr<LocalCache> cache = std::make_shared<LocalCache>(1 << 20);
  std::shared_ptr<Model> model;
};

TEST(CachedModel, AnswersTheSameWithoutAnExecution) {
  Fixture f;
  f.Ask(3);
  CHECK(f.Execute());
  const SinkPtr again = f.Ask(3);
  CHECK_EQ(again->answers.load(), 1);
  CHECK(IntsOf(again->response.outputs.at(0).data) == (std::vector<int32_t>{30}));
  CHECK(!f.Execute());
  const SinkPtr other = f.Ask(4);
  CHECK_EQ(other->answers.load(), 0);
  CHECK(f.Execute());
  const ModelStatistics sums = f.model->Statistics();
  CHECK_EQ(sums.success.count, uint64_t{3});
  CHECK_EQ(sums.queue.count, uint64_t{3});
  CHECK_EQ(sums.compute_infer.count, uint64_t{2});
  CHECK_EQ(sums.inference_count, uint64_t{2});
  CHECK_EQ(sums.execution_count, uint64_t{2});
  CHECK_EQ(sums.cache_hit.count, uint64_t{1});
  CHECK_EQ(sums.cache_miss.count, uint64_t{2});
  CHECK_EQ(f.model->in_flight(), size_t{0});
}

TEST(CachedModel, ErrorsAreNotKept) {
  Fixture f;
  const SinkPtr failed = f.Ask(3);
  CHECK(f.Execute(/*fails=*/true));
  CHECK(failed->code() == Code::kInternal);
  const SinkPtr again = f.Ask(3);
  CHECK(f.Execute());
  CHECK_EQ(again->message(), "");
}

TEST(CachedModel, WhatAModelWritesToItsInputsIsNoKey) {
  Fixture f;
  f.Ask(3);
  {
    Batch batch = f.model->TakeNow(0);
    auto* input = const_cast<uint8_t*>(batch.request(0).inputs[0].data.data());
    input[0] = 4;
    batch.RespondPacked({{"OUT", DType::kInt32, {1, 1}, Ints({30})}});
  }
  f.Ask(4);
  CHECK(f.Execute());
  CHECK(IntsOf(f.Ask(3)->response.outputs.at(0).data) == (std::vector<int32_t>{30}));
  CHECK(IntsOf(f.Ask(4)->response.outputs.at(0).data) == (std::vector<int32_t>{40}));
}

TEST(CachedModel, AHitWaitsForItsTurn) {
  Fixture f(/*cached=*/true, /*ordered=*/true);
  f.Ask(3);
  CHECK(f.Execute());
  const SinkPtr slow = f.Ask(4);
  const SinkPtr hit = f.Ask(3);
  const SinkPtr behind = f.Ask(5);
  CHECK_EQ(hit->answers.load(), 0);
  CHECK(f.Execute());  // the slow one
  CHECK_EQ(slow->answers.load() + hit->answers.load(), 2);
  CHECK(IntsOf(hit->response.outputs.at(0).data) == (std::vector<int32_t>{30}));
  const SinkPtr again = f.Ask(3);
  CHECK_EQ(again->answers.load(), 0);
  f.model->Stop();  // one that is never answered by the model holds up nobody either
  CHECK(behind->code() == Code::kUnavailable);
  CHECK_EQ(again->answers.load(), 1);
  CHECK_EQ(f.model->in_flight(), size_t{0});
}

TEST(CachedModel, OnlyWhereItsConfigurationSaysSo) {
  Fixture f(/*cached=*/false);
  for (int i = 0; i < 2; ++i) {
    f.Ask(3);
    CHECK(f.Execute());
  }
  CHECK_EQ(f.cache->size(), size_t{0});
  CHECK_EQ(f.model->Statistics().cache_miss.count, uint64_t{0});
}

}  // namespace
}  // namespace pyinfer
