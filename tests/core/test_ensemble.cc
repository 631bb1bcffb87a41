// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "check.h"
#include "engine/ensemble_run.h"
#include "ensembles.h"

namespace pyinfer {
namespace {

using testing::CheckFailed;
using testing::CheckOutput;
using testing::Ints;
using testing::KeepingSink;
using testing::Names;
using testing::SinkPtr;
using testing::Works;

void CheckAnswered(const SinkPtr& sink, const std::string& output, int32_t value) {
  CHECK_EQ(sink->message(), "");
  CHECK_EQ(sink->answers.load(), 1);
  CHECK(sink->code() == Code::kOk);
  CheckOutput(sink->response, output, value);
}

TEST(Ensemble, RunsBranchesSideBySide) {
  Works works;
  const auto ensemble = works.Diamond();
  const SinkPtr sink = works.Ask(1);
  works.Execute("a", 1);
  CHECK_EQ(works.pending("b"), size_t{1});
  CHECK_EQ(works.pending("c"), size_t{1});
  works.Execute("c", 3);
  CHECK_EQ(works.pending("d"), size_t{0});
  works.Execute("b", 2);
  CHECK_EQ(sink->answers.load(), 0);
  CHECK_EQ(ensemble->in_flight(), size_t{1});
  works.Execute("d", 4);
  CheckAnswered(sink, "Y", ((112 + 113) * 10) + 4);
  CHECK_EQ(ensemble->in_flight(), size_t{0});
}

TEST(Ensemble, AChainIsFlatAndCopiesNothing) {
  Works works;
  works.Identity("i");
  constexpr int kSteps = 3000;
  std::vector<EnsembleStep> steps;
  const auto tensor = [](int i) {
    return i == 0 ? std::string("X") : i == kSteps ? std::string("Y") : "t" + std::to_string(i);
  };
  for (int i = 0; i < kSteps; ++i) steps.push_back({"i", -1, {{"IN", tensor(i)}}, {{"OUT", tensor(i + 1)}}});
  works.Ensemble({"X"}, {"Y"}, steps);
  auto sink = std::make_shared<KeepingSink>();
  RequestPtr request = works.Request(sink, 7);
  const uint8_t* bytes = request->inputs[0].data.data();
  works.engine->Submit(std::move(request));
  works.engine->Dispatch();
  CheckAnswered(sink, "Y", 7);
  CHECK(sink->response.outputs[0].data.data() == bytes);
  CHECK_EQ(works.model("i").Statistics().success.count, uint64_t{kSteps});
}

TEST(Ensemble, StepsAreBatchedInTheQueuesOfTheirModels) {
  Works works;
  works.Part("a");
  works.Part("b");
  works.Ensemble({"X"}, {"Y"}, {{"a", -1, {{"IN", "X"}}, {{"OUT", "t"}}}, {"b", -1, {{"IN", "t"}}, {{"OUT", "Y"}}}});
  std::vector<SinkPtr> sinks;
  for (int i = 0; i < 4; ++i) sinks.push_back(works.Ask(i));
  works.Execute("a", 1);
  Batch batch = works.Take("b");
  CHECK_EQ(batch.size(), size_t{4});
  for (size_t i = 0; i < 4; ++i) Works::Respond(batch, i, {Works::In(batch, i)});
  batch.Finish();
  for (int i = 0; i < 4; ++i) CheckAnswered(sinks[static_cast<size_t>(i)], "Y", 10 * i + 1);
}

// X -> a -> (s, u);  s -> b -> L;  u -> c -> R
std::shared_ptr<Model> Fork(Works& works) {
  works.Part("a", {"IN"}, {"O1", "O2"});
  works.Part("b");
  works.Part("c");
  return works.Ensemble({"X"}, {"L", "R"},
                        {{"a", -1, {{"IN", "X"}}, {{"O1", "s"}, {"O2", "u"}}},
                         {"b", -1, {{"IN", "s"}}, {{"OUT", "L"}}},
                         {"c", -1, {{"IN", "u"}}, {{"OUT", "R"}}}});
}

TEST(Ensemble, OnlyWhatIsAskedForIsComputed) {
  Works works;
  Fork(works);
  const SinkPtr sink = works.Ask(1, {"X"}, {"R"});
  Batch batch = works.Take("a");
  CHECK_EQ(batch.request(0).requested_outputs.size(), size_t{1});
  CHECK_EQ(batch.request(0).requested_outputs[0].name, "O2");
  Works::Respond(batch, 0, {5, 6});
  batch.Finish();
  CHECK_EQ(works.pending("b"), size_t{0});
  works.Execute("c", 0);
  CheckAnswered(sink, "R", 60);
  CHECK_EQ(sink->response.outputs.size(), size_t{1});
}

TEST(Ensemble, OutputsComeInTheOrderThatWasAskedFor) {
  Works works;
  Fork(works);
  const SinkPtr sink = works.Ask(1, {"X"}, {"R", "L"});
  works.Execute("a", 0);
  works.Execute("c", 3);
  works.Execute("b", 2);
  CHECK_EQ(sink->response.outputs.at(0).name, "R");
  CheckAnswered(sink, "R", 103);
  CheckAnswered(sink, "L", 102);
}

TEST(Ensemble, OptionalInputsNeedNotBeGiven) {
  Works works;
  ModelSpec spec = Works::Spec("a", {"IN", "MAYBE"}, {"OUT"});
  spec.inputs[1].optional = true;
  works.Publish(spec);
  ModelSpec outer = Works::Spec("e", {"X", "Z"}, {"Y"});
  outer.inputs[1].optional = true;
  outer.ensemble = EnsembleOptions{{{"a", -1, {{"IN", "X"}, {"MAYBE", "Z"}}, {{"OUT", "Y"}}}}, 0};
  works.Publish(outer);
  const SinkPtr without = works.Ask(1);
  works.Execute("a", 0);
  CheckAnswered(without, "Y", 10);
  const SinkPtr with = works.Ask(1, {"X", "Z"});
  works.Execute("a", 0);
  CheckAnswered(with, "Y", 20);
}

TEST(Ensemble, AStepGetsWhatTheRequestSays) {
  Works works;
  works.Part("a");
  works.Ensemble({"X"}, {"Y"}, {{"a", -1, {{"IN", "X"}}, {{"OUT", "Y"}}}});
  RequestPtr request = works.Request(std::make_shared<KeepingSink>());
  request->id = "seven";
  request->correlation_id = {0, "sequence"};
  request->flags = kSequenceStart | kSequenceEnd;
  request->priority = 3;
  request->timeout_us = 100;
  request->parameters = {{"key", ParameterValue(int64_t{5})}};
  works.engine->Submit(std::move(request));
  works.clock->Advance(30'000);
  works.engine->Dispatch();
  const Batch batch = works.Take("a");
  const Request& step = batch.request(0);
  CHECK_EQ(step.id, "seven");
  CHECK_EQ(step.correlation_id.text, "sequence");
  CHECK_EQ(step.flags, kSequenceStart | kSequenceEnd);
  CHECK_EQ(step.priority, uint64_t{3});
  CHECK_EQ(step.timeout_us, uint64_t{70});
  CHECK_EQ(step.parameters.size(), size_t{1});
  CHECK_EQ(step.timeline.received, TimeNs{1'030'000});
}

TEST(Ensemble, AnEnsembleMayBeAStep) {
  Works works;
  works.Diamond();
  ModelSpec outer = Works::Spec("outer", {"P"}, {"Q"});
  outer.ensemble = EnsembleOptions{{{"e", -1, {{"X", "P"}}, {{"Y", "Q"}}}}, 0};
  works.Publish(outer);
  auto sink = std::make_shared<KeepingSink>();
  RequestPtr request = works.Request(sink, 1, {"P"});
  request->model_name = "outer";
  works.engine->Submit(std::move(request));
  works.engine->Dispatch();
  for (const char* name : {"a", "b", "c", "d"}) works.Execute(name, 0);
  CheckAnswered(sink, "Q", 2000);
}

TEST(Ensemble, ATensorWithSeveralReadersMustNotBeWrittenTo) {
  Works works;
  works.Diamond();
  works.Ask(1);
  Batch first = works.Take("a");
  CHECK(!first.request(0).inputs[0].shared);
  // Its own input, as an identity answers.
  std::vector<Tensor> outputs = first.request(0).inputs;
  outputs[0].name = "OUT";
  first.Respond(0, std::move(outputs), {});
  first.Finish();
  Batch left = works.Take("b");
  CHECK(left.request(0).inputs[0].shared);
  outputs = left.request(0).inputs;
  outputs[0].name = "OUT";
  outputs[0].shared = false;
  left.Respond(0, std::move(outputs), {});
  left.Finish();
  works.Execute("c", 0);
  // What b made is what c may still read; what c made is not.
  const Batch last = works.Take("d");
  CHECK(last.request(0).inputs[0].shared);
  CHECK(!last.request(0).inputs[1].shared);
}

TEST(Ensemble, CountsAsTriton) {
  Works works;
  const auto ensemble = works.Diamond();
  RequestPtr request = works.Request(std::make_shared<KeepingSink>());
  request->timeline.received = works.clock->Now();
  works.engine->Submit(std::move(request));
  works.clock->Advance(5);
  works.engine->Dispatch();
  for (const char* name : {"a", "b", "c", "d"}) {
    works.clock->Advance(100);
    Batch batch = works.Take(name);
    works.clock->Advance(10);
    batch.MarkPacked();
    works.clock->Advance(1000);
    Works::Respond(batch, 0, {1});
    batch.Finish();
  }
  const ModelStatistics counted = ensemble->Statistics();
  CHECK_EQ(counted.inference_count, uint64_t{1});
  CHECK_EQ(counted.execution_count, uint64_t{1});
  CHECK_EQ(counted.success.count, uint64_t{1});
  CHECK_EQ(counted.queue.ns, uint64_t{5});
  CHECK_EQ(counted.compute_input.ns, uint64_t{40});
  CHECK_EQ(counted.compute_infer.ns, uint64_t{4000});
  CHECK_EQ(counted.success.ns, uint64_t{5 + 4 * 1110});
  CHECK_EQ(counted.batches.at(1).compute_infer.count, uint64_t{1});
}

// a says which sequence its output belongs to; b goes on with it, c takes what does not come from a.
TEST(Ensemble, AStepMaySayWhichSequenceFollows) {
  Works works;
  for (const char* name : {"a", "b", "c"}) works.Part(name);
  works.Ensemble({"X"}, {"Y", "Z"},
                 {{"a", -1, {{"IN", "X"}}, {{"OUT", "t"}}},
                  {"b", -1, {{"IN", "t"}}, {{"OUT", "Y"}}},
                  {"c", -1, {{"IN", "X"}}, {{"OUT", "Z"}}}});
  const auto ask = [&](Parameters parameters) {
    auto sink = std::make_shared<KeepingSink>();
    RequestPtr request = works.Request(sink);
    request->correlation_id.number = 7;
    request->flags = kSequenceStart;
    works.engine->Submit(std::move(request));
    works.engine->Dispatch();
    Batch batch = works.Take("a");
    CHECK_EQ(batch.request(0).correlation_id.number, uint64_t{7});
    batch.Respond(0, {{"OUT", DType::kInt32, {1, 1}, testing::Ints({1})}}, std::move(parameters));
    batch.Finish();
    return sink;
  };
  const SinkPtr sink = ask({{"sequence_id", int64_t{9}}, {"sequence_end", true}, {"other", int64_t{1}}});
  {
    const Batch b = works.Take("b");
    CHECK_EQ(b.request(0).correlation_id.number, uint64_t{9});
    CHECK_EQ(b.request(0).flags, kSequenceEnd);
    const Batch c = works.Take("c");
    CHECK_EQ(c.request(0).correlation_id.number, uint64_t{7});
    CHECK_EQ(c.request(0).flags, kSequenceStart);
  }
  CHECK_EQ(sink->answers.load(), 1);
  const SinkPtr named = ask({{"sequence_id", std::string("nine")}});
  {
    Batch b = works.Take("b");
    CHECK_EQ(b.request(0).correlation_id.text, "nine");
    CHECK_EQ(b.request(0).flags, uint32_t{0});
    Works::Respond(b, 0, {1});
    Batch c = works.Take("c");
    Works::Respond(c, 0, {1});
  }
  CHECK_EQ(std::get<std::string>(named->response.parameters.at(0).second), "nine");
  CHECK(!std::get<bool>(named->response.parameters.at(1).second));
  testing::CheckFailed(ask({{"sequence_start", int64_t{1}}}), Code::kInvalidArg,
                       "in ensemble 'e', expect parameter 'sequence_start' to be TRITONSERVER_PARAMETER_BOOL");
  testing::CheckFailed(ask({{"sequence_id", true}}), Code::kInvalidArg,
                       "in ensemble 'e', expected parameter 'sequence_id' to be TRITONSERVER_PARAMETER_INT or "
                       "TRITONSERVER_PARAMETER_STRING");
}

TEST(Ensemble, LimitsTheRequestsOfAStep) {
  Works works;
  works.Part("a");
  works.Part("b");
  works.Ensemble({"X"}, {"Y"}, {{"a", -1, {{"IN", "X"}}, {{"OUT", "t"}}}, {"b", -1, {{"IN", "t"}}, {{"OUT", "Y"}}}},
                 /*decoupled=*/false, /*max_inflight_requests=*/2);
  std::vector<SinkPtr> sinks;
  for (int i = 0; i < 5; ++i) sinks.push_back(works.Ask(i));
  CHECK_EQ(works.pending("a"), size_t{2});
  sinks[2]->cancel = true;  // waits at the step
  works.engine->NoteCancellation();
  works.engine->Dispatch();
  CheckFailed(sinks[2], Code::kCancelled, "");
  works.Execute("a", 0);
  // In order, and not the one that is gone.
  Batch batch = works.Take("a");
  CHECK_EQ(batch.size(), size_t{2});
  CHECK_EQ(Works::In(batch, 0), 3);
  CHECK_EQ(works.pending("b"), size_t{2});
  batch.FailOpen(Status::Internal("bad"));
  batch.Finish();
  works.Execute("b", 0);
  CheckAnswered(sinks[1], "Y", 100);
  CheckFailed(sinks[4], Code::kInternal, "in ensemble 'e', bad");
  const SinkPtr after = works.Ask(1);
  works.Execute("a", 0);
  works.Execute("b", 0);
  CheckAnswered(after, "Y", 100);
}

TEST(Ensemble, OneRowIsAddedOrTaken) {
  const auto fit = [](bool batching, bool batched, const Shape& dims, Shape shape) {
    FitBatchDimension(batching, batched, dims, shape);
    return ShapeText(shape);
  };
  CHECK_EQ(fit(true, true, {3}, {2, 3}), "[2,3]");
  CHECK_EQ(fit(false, false, {3}, {1, 3}), "[1,3]");
  CHECK_EQ(fit(true, false, {-1}, {3}), "[1,3]");
  CHECK_EQ(fit(true, false, {3}, {2, 3}), "[2,3]");
  CHECK_EQ(fit(false, true, {3}, {1, 3}), "[3]");
  CHECK_EQ(fit(false, true, {-1, 3}, {1, 3}), "[1,3]");
  CHECK_EQ(fit(false, true, {3}, {2, 3}), "[2,3]");
  CHECK_EQ(fit(false, true, {3}, {}), "[]");
}

TEST(Ensemble, TensorsPassBetweenModelsWithAndWithoutBatches) {
  Works works;
  works.Publish(Works::Spec("a", {"IN"}, {"OUT"}, /*rows=*/0));
  works.Part("b");
  works.Ensemble({"X"}, {"Y"}, {{"a", -1, {{"IN", "X"}}, {{"OUT", "t"}}}, {"b", -1, {{"IN", "t"}}, {{"OUT", "Y"}}}});
  const SinkPtr sink = works.Ask(4);
  Batch batch = works.Take("a");
  CHECK_EQ(testing::IntsOf(batch.request(0).inputs[0].data).size(), size_t{1});
  CHECK_EQ(ShapeText(batch.request(0).inputs[0].shape), "[1]");
  batch.Respond(0, {{"OUT", DType::kInt32, {1}, Ints({5})}}, {});
  batch.Finish();
  works.Execute("b", 0);
  CheckAnswered(sink, "Y", 50);
  CHECK_EQ(ShapeText(sink->response.outputs[0].shape), "[1,1]");
}

TEST(Ensemble, StepsAreTracedBelowTheRequest) {
  Works works;
  works.Diamond();
  TraceOptions options;
  options.levels = kTraceTimestamps;
  options.rate = 1;
  works.engine->tracer()->Set("", options);
  works.Ask(1);
  for (const char* name : {"a", "b", "c", "d"}) works.Execute(name, 0);
  const auto traces = works.engine->tracer()->queue()->Take(std::chrono::milliseconds(0));
  CHECK_EQ(traces.size(), size_t{5});
  std::string names;
  for (const CollectedTrace& trace : traces) {
    names += trace.record.model_name;
    CHECK_EQ(trace.record.parent_id, uint64_t{trace.record.model_name == "e" ? 0u : 1u});
    CHECK_EQ(trace.record.ensemble, trace.record.model_name == "e");
  }
  CHECK_EQ(names, "abcde");
}

}  // namespace
}  // namespace pyinfer
