// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "sched/batch.h"
#include "sched/pack.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::Ints;
using testing::IntsOf;
using testing::KeepingSink;
using testing::SinkPtr;

class Observer final : public ExecutionObserver {
 public:
  void OnExecuted(int64_t executed_rows, const ExecutionTimes& executed_times) noexcept override {
    ++executions;
    rows = executed_rows;
    times = executed_times;
  }
  int executions = 0;
  int64_t rows = 0;
  ExecutionTimes times;
};

// A batch of requests with these many rows each, request i holding the value i.
struct Fixture {
  explicit Fixture(const std::vector<int64_t>& rows, ModelSpec spec = testing::IntModel({8, true, {}, 0}))
      : model(testing::Shared(std::move(spec))) {
    std::vector<RequestPtr> requests;
    for (size_t i = 0; i < rows.size(); ++i) {
      sinks.push_back(std::make_shared<KeepingSink>(static_cast<int>(i), &order));
      requests.push_back(testing::IntRequest(model, sinks.back(), rows[i], 2, static_cast<int32_t>(i)));
    }
    batch = Batch(std::move(requests), model, observer, clock, clock.Now());
  }

  void CheckFailed(size_t index, std::string_view text) const {
    CHECK_EQ(sinks[index]->answers.load(), 1);
    CHECK(sinks[index]->code() == Code::kInternal);
    CHECK_EQ(sinks[index]->message(), text);
    CHECK(sinks[index]->reason == FailureReason::kBackend);
    CHECK(sinks[index]->response.outputs.empty());
  }

  ManualClock clock{100};
  std::shared_ptr<const ModelSpec> model;
  std::shared_ptr<Observer> observer = std::make_shared<Observer>();
  std::vector<int> order;
  std::vector<SinkPtr> sinks;
  Batch batch;
};

Tensor Out(Shape shape, std::vector<int32_t> values) { return {"OUT", DType::kInt32, std::move(shape), Ints(values)}; }

TEST(Batch, Empty) {
  Batch batch;
  CHECK(batch.empty() && batch.finished());
  batch.Finish();
  Batch moved(std::move(batch));
  CHECK(moved.empty());
}

TEST(Batch, AnswersInOrder) {
  Fixture f({1, 2});
  CHECK_EQ(f.batch.rows(), int64_t{3});
  f.batch.Respond(1, {Out({2, 1}, {7, 8})}, {{"p", int64_t{1}}});
  f.batch.Respond(0, {Out({1, 1}, {6})}, {});
  CHECK(f.order.empty());
  f.batch.Finish();
  f.batch.Finish();
  CHECK(f.order == (std::vector<int>{0, 1}));
  CHECK(f.sinks[1]->response.status.ok());
  CHECK(IntsOf(f.sinks[1]->response.outputs[0].data) == (std::vector<int32_t>{7, 8}));
  CHECK_EQ(f.sinks[1]->response.parameters.size(), size_t{1});
  CHECK_EQ(f.observer->executions, 1);
  CHECK_EQ(f.observer->rows, int64_t{3});
}

TEST(Batch, NotesTimes) {
  Fixture f({1});
  f.clock.Advance(10);
  f.batch.MarkPacked();
  f.clock.Advance(10);
  f.batch.RespondPacked({Out({1, 1}, {1})});
  f.clock.Advance(10);
  f.batch.Finish();
  const Timeline& timeline = f.sinks[0]->timeline;
  CHECK(timeline.picked == 100 && timeline.packed == 110 && timeline.executed == 120 && timeline.split == 130);
  CHECK(f.observer->times.picked == 100 && f.observer->times.split == 130);
}

TEST(Batch, WhatIsLeftOpenIsAnError) {
  Fixture f({1, 1});
  f.batch.Respond(0, {Out({1, 1}, {1})}, {});
  f.batch.Finish();
  CHECK(f.sinks[0]->response.status.ok());
  f.CheckFailed(1, "the model 'm' did not answer the request");
}

TEST(Batch, DestroyedUnfinished) {
  auto f = std::make_unique<Fixture>(std::vector<int64_t>{1, 1});
  const std::vector<SinkPtr> sinks = f->sinks;
  {
    const Batch gone = std::move(f->batch);
  }
  for (const SinkPtr& sink : sinks) CHECK_EQ(sink->answers.load(), 1);
}

TEST(Batch, Moved) {
  Fixture f({1, 1});
  Batch moved(std::move(f.batch));
  CHECK(f.batch.empty() && f.batch.finished());
  f.batch.Finish();
  CHECK_EQ(f.sinks[0]->answers.load(), 0);
  moved.FailOpen(Status::Internal("x"));
  Fixture other({1});
  moved = std::move(other.batch);
  // What it held was answered when it was overwritten.
  f.CheckFailed(0, "x");
  f.CheckFailed(1, "x");
  CHECK_EQ(other.sinks[0]->answers.load(), 0);
  moved.Finish();
  CHECK_EQ(other.sinks[0]->answers.load(), 1);
}

TEST(Batch, FailsOne) {
  Fixture f({1, 1});
  f.batch.Fail(0, {Code::kUnavailable, "busy"});
  f.batch.Respond(1, {Out({1, 1}, {1})}, {});
  CHECK(f.batch.answered(0));
  f.batch.FailOpen(Status::Internal("never seen"));
  f.batch.Finish();
  CHECK(f.sinks[0]->code() == Code::kUnavailable);
  CHECK_EQ(f.sinks[0]->message(), "busy");
  CHECK(f.sinks[1]->response.status.ok());
}

TEST(Batch, NamesTheFaultOfAnOutput) {
  Fixture f({1, 1, 1, 1, 1});
  f.batch.Respond(0, {}, {});
  f.batch.Respond(1, {Out({2, 1}, {1, 2})}, {});
  Tensor other = Out({1, 1}, {1});
  other.name = "NONE";
  f.batch.Respond(2, {Out({1, 1}, {1}), other}, {});
  Tensor real = Out({1, 1}, {1});
  real.dtype = DType::kFp32;
  f.batch.Respond(3, {real}, {});
  f.batch.Respond(4, {Out({1, 1}, {9})}, {});
  f.batch.Finish();
  f.CheckFailed(0, "the model 'm' did not return its output 'OUT'");
  f.CheckFailed(1, "the shape of output 'OUT' of model 'm' is [2,1], expected [1,-1]");
  f.CheckFailed(2, "the model returned an unknown output 'NONE' of model 'm'");
  f.CheckFailed(3, "the data type of output 'OUT' of model 'm' is 'FP32', expected 'INT32'");
  CHECK(f.sinks[4]->response.status.ok());
}

TEST(Batch, GivesTheOutputsThatWereAskedFor) {
  ModelSpec spec = testing::IntModel({8, true, {}, 0});
  spec.outputs.push_back({"SECOND", DType::kInt32, {-1}, {}, false});
  auto sink = std::make_shared<KeepingSink>();
  const auto model = testing::Shared(std::move(spec));
  RequestPtr request = testing::IntRequest(model, sink);
  request->requested_outputs = {{"SECOND"}};
  const ManualClock clock(1);
  std::vector<RequestPtr> requests;
  requests.push_back(std::move(request));
  Batch batch(std::move(requests), model, nullptr, clock, 1);
  Tensor second = Out({1, 1}, {2});
  second.name = "SECOND";
  batch.Respond(0, {Out({1, 1}, {1}), second}, {});
  batch.Finish();
  CHECK_EQ(sink->response.outputs.size(), size_t{1});
  CHECK_EQ(sink->response.outputs[0].name, "SECOND");
}

TEST(Pack, CopiesNothingForOne) {
  Fixture f({3});
  const std::vector<Tensor> packed = Pack(f.batch);
  CHECK(packed[0].data.data() == f.batch.request(0).inputs[0].data.data());
  CHECK_EQ(ShapeText(packed[0].shape), "[3,2]");
}

TEST(Pack, SaysWhatOthersReadAsWell) {
  ModelSpec spec = testing::IntModel({8, true, {}, 0});
  const auto model = testing::Shared(std::move(spec));
  const ManualClock clock(1);
  for (const bool apart : {false, true}) {
    std::vector<RequestPtr> requests;
    const Slice both = Ints({1, 2});
    for (size_t i = 0; i < 2; ++i) {
      requests.push_back(testing::IntRequest(model, std::make_shared<KeepingSink>()));
      requests.back()->inputs[0].data = both.Sub(apart ? 4 - 4 * i : 4 * i, 4);
      requests.back()->inputs[0].shared = i == 0;
    }
    const Batch batch(std::move(requests), model, nullptr, clock, 1);
    const Tensor packed = Pack(batch)[0];
    CHECK(packed.shared == !apart);  // a copy is nobody else's
    CHECK((packed.data.data() == both.data()) == !apart);
  }
}

TEST(Pack, Concatenates) {
  Fixture f({1, 2, 0, 1});
  const std::vector<Tensor> packed = Pack(f.batch);
  CHECK_EQ(packed.size(), size_t{1});
  CHECK_EQ(ShapeText(packed[0].shape), "[4,2]");
  CHECK(IntsOf(packed[0].data) == (std::vector<int32_t>{0, 0, 1, 1, 1, 1, 3, 3}));
}

TEST(Split, SharesTheOutput) {
  Fixture f({1, 2});
  const Tensor output = Out({3, 2}, {1, 2, 3, 4, 5, 6});
  f.batch.RespondPacked({output});
  f.batch.Finish();
  const Tensor& first = f.sinks[0]->response.outputs[0];
  const Tensor& second = f.sinks[1]->response.outputs[0];
  CHECK(first.data.data() == output.data.data());
  CHECK(second.data.data() == output.data.data() + 8);
  CHECK_EQ(ShapeText(first.shape), "[1,2]");
  CHECK_EQ(ShapeText(second.shape), "[2,2]");
  CHECK(IntsOf(second.data) == (std::vector<int32_t>{3, 4, 5, 6}));
}

TEST(Split, OneRequestTakesTheOutputAsItIs) {
  Fixture f({2});
  const Tensor output = Out({2, 1}, {1, 2});
  f.batch.RespondPacked({output});
  f.batch.Finish();
  CHECK(f.sinks[0]->response.outputs[0].data.data() == output.data.data());
}

TEST(Split, RequestsWithoutRows) {
  Fixture f({0, 2, 0});
  f.batch.RespondPacked({Out({2, 1}, {5, 6})});
  f.batch.Finish();
  for (const SinkPtr& sink : f.sinks) CHECK_EQ(sink->message(), "");
  CHECK_EQ(ShapeText(f.sinks[0]->response.outputs[0].shape), "[0,1]");
  CHECK(IntsOf(f.sinks[1]->response.outputs[0].data) == (std::vector<int32_t>{5, 6}));
  Fixture none({0, 0});
  none.batch.RespondPacked({Out({0, 3}, {})});
  none.batch.Finish();
  for (const SinkPtr& sink : none.sinks) CHECK_EQ(ShapeText(sink->response.outputs[0].shape), "[0,3]");
}

TEST(Split, WrongRowsFailAll) {
  for (const Tensor& output : {Out({2, 1}, {1, 2}), Out({4, 1}, {1, 2, 3, 4}), Out({}, {1})}) {
    Fixture f({1, 2});
    f.batch.RespondPacked({output});
    f.batch.Finish();
    for (size_t i = 0; i < 2; ++i) {
      f.CheckFailed(i, "the shape of output 'OUT' of model 'm' is " + ShapeText(output.shape) + ", expected 3 rows");
    }
  }
}

TEST(Split, FewerBytesThanTheShapeSays) {
  Fixture f({1, 2});
  f.batch.RespondPacked({Out({3, 2}, {1, 2, 3})});
  f.batch.Finish();
  for (const SinkPtr& sink : f.sinks) CHECK(sink->code() == Code::kInternal);
}

TEST(Split, UnknownAndMissingOutputs) {
  Fixture f({1, 1});
  Tensor output = Out({2, 1}, {1, 2});
  output.name = "NONE";
  f.batch.RespondPacked({output});
  f.batch.Finish();
  f.CheckFailed(1, "the model returned an unknown output 'NONE' of model 'm'");
  Fixture missing({1, 1});
  missing.batch.RespondPacked({});
  missing.batch.Finish();
  missing.CheckFailed(0, "the model 'm' did not return its output 'OUT'");
}

TEST(Split, LeavesWhatIsAnswered) {
  Fixture f({1, 1});
  f.batch.Fail(0, Status::Unavailable("first"));
  f.batch.RespondPacked({Out({2, 1}, {1, 2})});
  f.batch.Finish();
  CHECK_EQ(f.sinks[0]->message(), "first");
  CHECK(IntsOf(f.sinks[1]->response.outputs[0].data) == (std::vector<int32_t>{2}));
}

TEST(Split, BytesAreCutAtElements) {
  ModelSpec spec = testing::IntModel({8, true, {}, 0});
  spec.outputs[0].dtype = DType::kBytes;
  const std::string bytes = std::string("\1\0\0\0a\0\0\0\0\2\0\0\0bc", 15);
  Fixture f({1, 2}, spec);
  f.batch.RespondPacked({{"OUT", DType::kBytes, {3, 1}, Slice(Buffer::FromString(bytes))}});
  f.batch.Finish();
  CHECK_EQ(f.sinks[0]->response.outputs[0].data.view(), bytes.substr(0, 5));
  CHECK_EQ(f.sinks[1]->response.outputs[0].data.view(), bytes.substr(5));
  Fixture cut({1, 2}, spec);
  cut.batch.RespondPacked({{"OUT", DType::kBytes, {3, 1}, Slice(Buffer::FromString(bytes.substr(0, 14)))}});
  cut.batch.Finish();
  cut.CheckFailed(0,
                  "incomplete string data for output 'OUT', expecting string of length 2 but only 1 bytes available");
}

}  // namespace
}  // namespace pyinfer
