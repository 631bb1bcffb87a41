// SPDX-License-Identifier: Apache-2.0
// Requests that are larger than a batch.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "engine/model.h"
#include "engine/response_cache.h"
#include "infer/validate.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::IntModel;
using testing::Ints;
using testing::IntsOf;
using testing::KeepingSink;
using testing::SinkPtr;
using Values = std::vector<int32_t>;

ModelSpec Spec(int64_t rows = 4) {
  ModelSpec spec = IntModel({rows, true, {}, 0});
  spec.split_large = true;
  return spec;
}

struct House {
  explicit House(ModelSpec spec = Spec(), std::shared_ptr<ResponseCache> cache = nullptr)
      : model(Model::Create(std::move(spec), clock, std::move(cache))) {
    model->AddInstance();
  }
  ~House() { model->Stop(); }

  // Rows of one element: first, first + 1, ...
  SinkPtr Push(int64_t rows, int32_t first = 0, uint64_t timeout_us = 0) {
    auto sink = std::make_shared<KeepingSink>();
    auto request = std::make_unique<Request>(sink);
    Values values;
    for (int64_t row = 0; row < rows; ++row) values.push_back(first + static_cast<int32_t>(row));
    request->model_name = "m";
    request->id = "seven";
    request->model = model->spec();
    request->timeout_us = timeout_us;
    request->inputs.push_back({"IN", DType::kInt32, {rows, 1}, Ints(values)});
    bytes = request->inputs[0].data;
    CHECK_EQ(ValidateRequest(*request).message(), "");
    model->Push(std::move(request));
    return sink;
  }
  Batch Take() { return model->TakeNow(0); }

  const std::shared_ptr<ManualClock> clock = std::make_shared<ManualClock>(1'000'000);
  std::shared_ptr<Model> model;
  Slice bytes;  // of the request that was pushed last
};

Values In(const Batch& batch, size_t index = 0) { return IntsOf(batch.request(index).inputs[0].data); }

// Each output is the input.
void Echo(Batch& batch, size_t index) {
  std::vector<Tensor> outputs = {batch.request(index).inputs[0]};
  outputs[0].name = "OUT";
  batch.Respond(index, std::move(outputs), {{"from", In(batch, index)[0] + int64_t{0}}});
}

void Echo(Batch batch) {
  CHECK(!batch.empty());
  for (size_t i = 0; i < batch.size(); ++i) Echo(batch, i);
}

TEST(SplitSource, PartsAreCutWithoutACopyAndJoinedInOrder) {
  House house;
  const SinkPtr sink = house.Push(10);
  std::vector<Batch> batches;
  for (const Values& rows : {Values{0, 1, 2, 3}, Values{4, 5, 6, 7}, Values{8, 9}}) {
    batches.push_back(house.Take());
    CHECK(In(batches.back()) == rows);
    CHECK_EQ(batches.back().request(0).id, "seven");
    CHECK_EQ(batches.back().request(0).inputs[0].data.data(), house.bytes.data() + 4 * rows[0]);
  }
  CHECK(house.Take().empty());
  for (size_t i : {2, 0, 1}) {
    CHECK_EQ(sink->answers.load(), 0);
    house.clock->Advance(1000);
    Echo(std::move(batches[i]));
  }
  CHECK_EQ(sink->answers.load(), 1);
  CHECK_EQ(sink->message(), "");
  CHECK(sink->response.outputs[0].shape == Shape({10, 1}));
  CHECK(IntsOf(sink->response.outputs[0].data) == Values({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  CHECK_EQ(std::get<int64_t>(sink->response.parameters.at(0).second), int64_t{0});
  const ModelStatistics statistics = house.model->Statistics();
  CHECK_EQ(statistics.success.count, uint64_t{1});
  CHECK_EQ(statistics.inference_count, uint64_t{10});
  CHECK_EQ(statistics.execution_count, uint64_t{3});
  // 1000, 2000 and 3000 ns with their executors; none had to wait.
  CHECK_EQ(statistics.compute_infer.ns, uint64_t{6000});
  CHECK_EQ(statistics.queue.ns, uint64_t{0});
  CHECK_EQ(house.model->in_flight(), size_t{0});
}

TEST(SplitSource, PartsShareBatchesWithOthers) {
  House house;
  const SinkPtr large = house.Push(6);
  const SinkPtr small = house.Push(2, 100);
  Echo(house.Take());
  Batch batch = house.Take();
  CHECK_EQ(batch.size(), size_t{2});
  CHECK(In(batch, 0) == Values({4, 5}));
  CHECK(In(batch, 1) == Values({100, 101}));
  Echo(std::move(batch));
  CHECK_EQ(large->message() + small->message(), "");
  CHECK(IntsOf(large->response.outputs[0].data) == Values({0, 1, 2, 3, 4, 5}));
}

TEST(SplitSource, WhatFitsIsLeftAlone) {
  House house;
  const SinkPtr sink = house.Push(4);
  Batch batch = house.Take();
  CHECK_EQ(batch.size(), size_t{1});
  CHECK_EQ(batch.rows(), int64_t{4});
  Echo(std::move(batch));
  CHECK_EQ(sink->message(), "");
}

TEST(SplitSource, TheFirstFailureAnswersAndTheRestIsNotExecuted) {
  House house;
  const SinkPtr sink = house.Push(12);
  Batch first = house.Take();
  Batch second = house.Take();
  second.Fail(0, Status::Unavailable("refused"));
  second.Finish();
  CHECK_EQ(sink->answers.load(), 1);
  CHECK_EQ(sink->message(), "refused");
  CHECK(sink->reason == FailureReason::kBackend);
  CHECK_EQ(house.model->pending(), size_t{0});
  CHECK(first.request(0).cancelled());
  Echo(std::move(first));
  CHECK_EQ(sink->answers.load(), 1);
  const ModelStatistics statistics = house.model->Statistics();
  CHECK_EQ(statistics.success.count, uint64_t{0});
  CHECK_EQ(statistics.fail.count, uint64_t{1});
  CHECK_EQ(statistics.execution_count, uint64_t{2});
  CHECK_EQ(house.model->in_flight(), size_t{0});
}

TEST(SplitSource, ACancelledRequestIsAnsweredAtOnce) {
  House house;
  const SinkPtr sink = house.Push(12);
  Batch first = house.Take();
  sink->cancel = true;
  house.model->Reap();
  CHECK(sink->code() == Code::kCancelled);
  CHECK(sink->reason == FailureReason::kCancelled);
  CHECK_EQ(house.model->pending(), size_t{0});
  Echo(std::move(first));
  CHECK_EQ(sink->answers.load(), 1);
}

TEST(SplitSource, TimeIsOverForTheWhole) {
  ModelSpec spec = Spec();
  spec.queue.default_policy.default_timeout_ns = 5000;
  spec.queue.default_policy.allow_timeout_override = true;
  House house(std::move(spec));
  const SinkPtr sink = house.Push(12, 0, 2);
  Batch first = house.Take();
  CHECK_EQ(first.request(0).timeout_us, uint64_t{2});
  house.clock->Advance(2000);
  house.model->Expire(house.clock->Now());
  CHECK_EQ(sink->message(), "Request timeout expired");
  CHECK(sink->reason == FailureReason::kRejected);
  CHECK_EQ(house.model->pending(), size_t{0});
}

TEST(SplitSource, QueueLimitsHold) {
  ModelSpec spec = Spec();
  spec.queue.default_policy.max_queue_size = 2;
  House house(std::move(spec));
  const SinkPtr refused = house.Push(12);
  CHECK_EQ(refused->message(), "[request id: seven] Exceeds maximum queue size");
  CHECK(refused->reason == FailureReason::kRejected);
  CHECK_EQ(house.model->pending(), size_t{0});
  const SinkPtr fits = house.Push(8);
  CHECK_EQ(house.model->pending(), size_t{2});
  Echo(house.Take());
  Echo(house.Take());
  CHECK_EQ(fits->message(), "");
}

TEST(SplitSource, AnswersLeaveInOrder) {
  ModelSpec spec = Spec();
  spec.batching.preserve_ordering = true;
  House house(std::move(spec));
  const SinkPtr large = house.Push(8);
  const SinkPtr small = house.Push(3, 100);
  Batch first = house.Take(), second = house.Take();
  Echo(house.Take());
  Echo(std::move(second));
  CHECK_EQ(large->answers.load() + small->answers.load(), 0);
  Echo(std::move(first));
  CHECK_EQ(large->message() + small->message(), "");
}

// With a cache a request has its turn before it is known to be large; its parts would wait for it.
TEST(SplitSource, AnswersLeaveInOrderBesideACache) {
  ModelSpec spec = Spec();
  spec.batching.preserve_ordering = true;
  spec.cached = true;
  House house(std::move(spec), std::make_shared<LocalCache>(1 << 20));
  const SinkPtr large = house.Push(8);
  const SinkPtr small = house.Push(3, 100);
  Batch first = house.Take(), second = house.Take();
  Echo(house.Take());
  Echo(std::move(second));
  CHECK_EQ(large->answers.load() + small->answers.load(), 0);
  Echo(std::move(first));
  CHECK_EQ(large->message() + small->message(), "");
  const SinkPtr hit = house.Push(8);
  CHECK_EQ(hit->answers.load(), 1);
  CHECK(IntsOf(hit->response.outputs.at(0).data) == (Values{0, 1, 2, 3, 4, 5, 6, 7}));
}

// Each part is one of those that the SLO decides about; what is too late of a request ends all of it.
TEST(SplitSource, WithALatencySlo) {
  ModelSpec spec = Spec();
  spec.queue.latency_slo_ns = 100'000'000;
  House house(std::move(spec));
  const auto execute = [&] {
    Batch batch = house.Take();
    CHECK(batch.rows() <= 4);
    house.clock->Advance(40'000'000);
    Echo(std::move(batch));
  };
  const SinkPtr lone = house.Push(4);
  execute();
  CHECK_EQ(lone->message(), "");
  const SinkPtr two = house.Push(8);
  execute();
  execute();
  CHECK_EQ(two->message(), "");
  CHECK(IntsOf(two->response.outputs.at(0).data) == (Values{0, 1, 2, 3, 4, 5, 6, 7}));
  const SinkPtr ten = house.Push(40);
  CHECK_EQ(ten->message(),
           "[request id: seven] model 'm' is over capacity: the request can not be answered within the latency SLO of "
           "100 ms");
  CHECK_EQ(ten->answers.load(), 1);
  CHECK_EQ(house.model->pending(), size_t{0});
  CHECK(house.Take().empty());
  CHECK_EQ(house.model->in_flight(), size_t{0});
}

TEST(SplitSource, UnloadingAnswersOnce) {
  House house;
  const SinkPtr sink = house.Push(12);
  Batch first = house.Take();
  house.model->Stop();
  CHECK_EQ(sink->message(), "the model 'm' is being unloaded");
  Echo(std::move(first));
  CHECK_EQ(sink->answers.load(), 1);
  const SinkPtr late = house.Push(12);
  CHECK(late->code() == Code::kUnavailable);
  CHECK_EQ(late->answers.load(), 1);
}

TEST(SplitSource, TextsAreCutBetweenElements) {
  ModelSpec spec = Spec(2);
  spec.inputs[0].dtype = spec.outputs[0].dtype = DType::kBytes;
  spec.inputs[0].dims = spec.outputs[0].dims = {2};
  House house(std::move(spec));
  std::string data;
  for (const std::string text : {"", "one", "two", "three", "", "five"}) {
    const auto size = static_cast<uint32_t>(text.size());
    data.append(reinterpret_cast<const char*>(&size), 4).append(text);
  }
  auto sink = std::make_shared<KeepingSink>();
  auto request = std::make_unique<Request>(sink);
  request->model = house.model->spec();
  request->inputs.push_back({"IN", DType::kBytes, {3, 2}, Slice::Copy(data.data(), data.size())});
  CHECK(ValidateRequest(*request).ok());
  house.model->Push(std::move(request));
  for (int part = 0; part < 2; ++part) {
    Batch batch = house.Take();
    std::vector<Tensor> outputs = {batch.request(0).inputs[0]};
    CHECK_EQ(outputs[0].data.size(), part == 0 ? size_t{27} : size_t{12});
    outputs[0].name = "OUT";
    batch.Respond(0, std::move(outputs), {});
  }
  CHECK_EQ(sink->message(), "");
  CHECK_EQ(std::string(sink->response.outputs[0].data.view()), data);
}

TEST(SplitSource, PartsWhoseOutputsDifferInShape) {
  House house;
  const SinkPtr sink = house.Push(6);
  for (const int64_t width : {2, 3}) {
    Batch batch = house.Take();
    const int64_t rows = batch.rows();
    batch.Respond(0, {{"OUT", DType::kInt32, {rows, width}, Ints(Values(static_cast<size_t>(rows * width)))}}, {});
  }
  CHECK_EQ(sink->message(), "the parts of output 'OUT' differ in shape: [4,2] and [2,3]");
}

TEST(SplitSource, ThereIsALimitOfParts) {
  Request request(std::make_shared<KeepingSink>());
  request.model = testing::Shared(Spec());
  // No data at all: they would cost memory for nothing.
  request.inputs.push_back({"IN", DType::kInt32, {4 * kMostParts + 1, 0}, {}});
  CHECK_EQ(ValidateRequest(request).message(),
           "[request id: <id_unknown>] inference request batch-size must be <= 4096 for 'm'");
  request.inputs[0].shape[0] = 4 * kMostParts;
  CHECK(ValidateRequest(request).ok());
  request.Answer({});
}

}  // namespace
}  // namespace pyinfer
