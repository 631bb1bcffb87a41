// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "sched/batch.h"
#include "sched/dynamic_source.h"
#include "sched/pack.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::IntModel;
using testing::Ints;
using testing::IntsOf;
using testing::KeepingSink;
using testing::SinkPtr;
using Kind = BatchInput::Kind;

// A batching model of the ragged input IN, with one batch input of each kind: "K0", "K1", ...
ModelSpec RaggedModel(DType dtype = DType::kInt32) {
  ModelSpec spec = IntModel({8, true, {8}, 0});
  spec.inputs[0].ragged = true;
  size_t number = 0;
  for (const Kind kind : {Kind::kElementCount, Kind::kAccumulatedElementCount, Kind::kAccumulatedElementCountWithZero,
                          Kind::kMaxElementCountAsShape, Kind::kItemShape, Kind::kItemShapeFlatten}) {
    spec.batch_inputs.push_back({kind, {"K" + std::to_string(number++)}, "IN", dtype});
  }
  return spec;
}

struct Fixture {
  // A request for each shape of IN, its elements the request's number.
  Fixture(ModelSpec spec, const std::vector<Shape>& shapes) : model(testing::Shared(std::move(spec))) {
    std::vector<RequestPtr> requests;
    for (size_t i = 0; i < shapes.size(); ++i) {
      sinks.push_back(std::make_shared<KeepingSink>());
      RequestPtr request = testing::IntRequest(model, sinks.back(), shapes[i][0]);
      const auto count = static_cast<size_t>(ElementCount(shapes[i]).value());
      request->inputs[0].shape = shapes[i];
      request->inputs[0].data = Ints(std::vector<int32_t>(count, static_cast<int32_t>(i)));
      requests.push_back(std::move(request));
    }
    batch = Batch(std::move(requests), model, nullptr, clock, clock.Now());
  }

  ManualClock clock{100};
  std::shared_ptr<const ModelSpec> model;
  std::vector<SinkPtr> sinks;
  Batch batch;
};

void CheckPacked(const std::vector<Tensor>& packed, size_t at, const std::string& shape, std::vector<int32_t> values) {
  CHECK_EQ(ShapeText(packed[at].shape), shape);
  CHECK(IntsOf(packed[at].data) == values);
}

TEST(Ragged, ElementsOneAfterTheOtherAndEachKindOfBatchInput) {
  Fixture f(RaggedModel(), {{1, 3}, {1, 4}, {1, 5}});
  const std::vector<Tensor> packed = Pack(f.batch);
  CHECK_EQ(packed.size(), size_t{7});
  CheckPacked(packed, 0, "[12]", {0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2});
  CheckPacked(packed, 1, "[3]", {3, 4, 5});
  CheckPacked(packed, 2, "[3]", {3, 7, 12});
  CheckPacked(packed, 3, "[4]", {0, 3, 7, 12});
  CheckPacked(packed, 4, "[5]", {0, 0, 0, 0, 0});
  CheckPacked(packed, 5, "[3,1]", {3, 4, 5});
  CheckPacked(packed, 6, "[3]", {3, 4, 5});
  for (size_t i = 1; i < packed.size(); ++i) CHECK_EQ(packed[i].name, "K" + std::to_string(i - 1));
}

TEST(Ragged, RowsOfRequestsAndRanksThatDiffer) {
  Fixture f(RaggedModel(), {{2, 1, 3}, {1, 2, 2}});
  const std::vector<Tensor> packed = Pack(f.batch);
  CheckPacked(packed, 1, "[2]", {6, 4});
  CheckPacked(packed, 5, "[3,2]", {1, 3, 1, 3, 2, 2});  // one row for each row of each request
  CheckPacked(packed, 6, "[6]", {1, 3, 1, 3, 2, 2});
}

TEST(Ragged, OneRequestIsFlatAsWellAndNotCopied) {
  Fixture f(RaggedModel(), {{2, 3}});
  const std::vector<Tensor> packed = Pack(f.batch);
  CHECK_EQ(ShapeText(packed[0].shape), "[6]");
  CHECK(packed[0].data.data() == f.batch.request(0).inputs[0].data.data());
  CheckPacked(packed, 3, "[2]", {0, 6});
}

TEST(Ragged, NothingIsNoElements) {
  Fixture f(RaggedModel(), {{1, 0}, {1, 2}});
  const std::vector<Tensor> packed = Pack(f.batch);
  CheckPacked(packed, 0, "[2]", {1, 1});
  CheckPacked(packed, 1, "[2]", {0, 2});
  CheckPacked(packed, 5, "[2,1]", {0, 2});
}

TEST(Ragged, BatchInputsMayBeFloats) {
  Fixture f(RaggedModel(DType::kFp32), {{1, 3}, {1, 4}});
  const Tensor counts = Pack(f.batch)[1];
  CHECK(counts.dtype == DType::kFp32);
  float values[2];
  CHECK_EQ(counts.data.size(), sizeof(values));
  std::memcpy(values, counts.data.data(), sizeof(values));
  CHECK(values[0] == 3.0F && values[1] == 4.0F);
}

TEST(Ragged, RequestsOfAnyShapeShareABatch) {
  for (const bool ragged : {true, false}) {
    ModelSpec spec = RaggedModel();
    spec.inputs[0].ragged = ragged;
    const ManualClock clock(100);
    const auto model = testing::Shared(std::move(spec));
    DynamicSource source(model, clock, std::weak_ptr<ExecutionObserver>());
    for (const int64_t width : {3, 4}) {
      source.Push(testing::IntRequest(model, std::make_shared<KeepingSink>(), 1, width));
    }
    CHECK_EQ(source.Take(0, 100).size(), ragged ? size_t{2} : size_t{1});
  }
}

// OUT has the shape of IN but for its last dimension, which is 2.
ModelSpec ScatterModel() {
  ModelSpec spec = RaggedModel();
  spec.batch_outputs = {{{"OUT"}, "IN"}};
  spec.outputs[0].dims = {-1, 2};
  return spec;
}

TEST(Scatter, CutsByTheShapeOfTheInput) {
  Fixture f(ScatterModel(), {{1, 1, 9}, {1, 2, 9}});
  const Tensor output{"OUT", DType::kInt32, {6}, Ints({1, 2, 3, 4, 5, 6})};
  f.batch.RespondPacked({output});
  f.batch.Finish();
  const Tensor& first = f.sinks[0]->response.outputs.at(0);
  const Tensor& second = f.sinks[1]->response.outputs.at(0);
  CHECK_EQ(ShapeText(first.shape), "[1,1,2]");
  CHECK_EQ(ShapeText(second.shape), "[1,2,2]");
  CHECK(IntsOf(first.data) == (std::vector<int32_t>{1, 2}));
  CHECK(second.data.data() == output.data.data() + 8);
  Fixture one(ScatterModel(), {{1, 3, 9}});
  one.batch.RespondPacked({output});
  one.batch.Finish();
  CHECK_EQ(ShapeText(one.sinks[0]->response.outputs.at(0).shape), "[1,3,2]");
}

TEST(Scatter, TooFewAndTooMany) {
  for (const auto& [values, text] : std::vector<std::pair<std::vector<int32_t>, std::string>>{
           {{1, 2, 3}, "output 'OUT' has fewer elements than the requests of its batch"},
           {{1, 2, 3, 4, 5}, "output 'OUT' of model 'm' has more elements than the requests of its batch"}}) {
    Fixture f(ScatterModel(), {{1, 1, 9}, {1, 1, 9}});
    f.batch.RespondPacked({{"OUT", DType::kInt32, {static_cast<int64_t>(values.size())}, Ints(values)}});
    f.batch.Finish();
    for (const SinkPtr& sink : f.sinks) CHECK_EQ(sink->message(), text);
  }
}

}  // namespace
}  // namespace pyinfer
