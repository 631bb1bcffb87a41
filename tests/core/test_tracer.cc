// SPDX-License-Identifier: Apache-2.0
#include <set>
#include <thread>

#include "engine/engine.h"
#include "tracing.h"

namespace pyinfer {
namespace {

using namespace testing;

constexpr const char* kParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

TraceOptions Times(uint32_t rate, int32_t count = -1) { return {kTraceTimestamps, rate, count, 0}; }

TEST(Tracer, TracesNothingUntilItIsTold) {
  Traced t;
  CHECK(!t.tracer->enabled());
  CHECK_EQ(t.Infer(2000), 0);
  t.tracer->Set("", {0, 1, -1, 0});
  CHECK(!t.tracer->enabled());
}

TEST(Tracer, SamplesOneInRate) {
  Traced t;
  t.tracer->Set("", Times(3));
  CHECK_EQ(t.Infer(2), 0);
  CHECK_EQ(t.Infer(1), 1);
  CHECK_EQ(t.Infer(30), 10);
  CHECK_EQ(t.Take().size(), size_t{11});
}

TEST(Tracer, StopsWhenTheCountIsUsedUp) {
  Traced t;
  t.tracer->Set("", Times(2, 3));
  CHECK_EQ(t.Infer(4), 2);
  CHECK_EQ(t.tracer->Get("").count, 1);
  CHECK_EQ(t.Infer(100), 1);
  CHECK_EQ(t.tracer->Get("").count, 0);
  t.tracer->Set("", Times(1, 0));
  CHECK_EQ(t.Infer(5), 0);
}

TEST(Tracer, CountIsNotExceededByManyThreads) {
  Traced t;
  t.tracer->Set("", Times(1, 100));
  std::atomic<int> traced{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&] { traced += t.Infer(100); });
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(traced.load(), 100);
  CHECK_EQ(t.Take().size(), size_t{100});
}

TEST(Tracer, ModelSettingCountsForItsModelAlone) {
  Traced t;
  t.tracer->Set("other", Times(1));
  CHECK(t.tracer->enabled());
  CHECK_EQ(t.Infer(3), 0);
  t.tracer->Set("m", Times(1));
  CHECK_EQ(t.Infer(3), 3);
  t.tracer->Set("", Times(1));
  t.tracer->Set("m", {});
  CHECK_EQ(t.Infer(3), 0);
  t.tracer->Clear("m");
  CHECK_EQ(t.Infer(3), 3);
  t.tracer->Set("", {});
  t.tracer->Clear("other");
  CHECK(!t.tracer->enabled());
}

TEST(Tracer, TraceKeepsItsSettingWhenThatIsReplaced) {
  Traced t;
  t.tracer->Set("", {kTraceTimestamps, 1, -1, 7});
  const RequestPtr request = t.Begin();
  t.tracer->Set("", {});
  request->Answer({});
  request->trace.reset();
  const auto traces = t.Take();
  CHECK_EQ(traces.size(), size_t{1});
  CHECK_EQ(traces[0].setting->options().log_frequency, uint32_t{7});
}

TEST(Tracer, RecordSaysWhatTheRequestWas) {
  Traced t;
  t.tracer->Set("", {kTraceTimestamps | kTraceTensors, 1, -1, 0});
  RequestPtr request = t.Begin("an id");
  request->timeline.queued = 1001;
  t.clock->Advance(10);
  Response response;
  response.outputs = request->inputs;
  response.outputs[0].name = "OUT";
  request->Answer(std::move(response));
  request.reset();
  const auto traces = t.Take();
  const TraceRecord& record = traces.at(0).record;
  CHECK_EQ(record.id, uint64_t{1});
  CHECK_EQ(record.model_name, "m");
  CHECK_EQ(record.model_version, int64_t{3});
  CHECK_EQ(record.request_id, "an id");
  CHECK(record.timeline.started == 1000 && record.timeline.queued == 1001 && record.timeline.answered == 1010);
  CHECK_EQ(record.tensors.size(), size_t{2});
  CHECK(!record.tensors[0].output && record.tensors[0].tensor.name == "IN");
  CHECK(record.tensors[1].output && record.tensors[1].tensor.name == "OUT");
  CHECK(record.status.ok());
}

TEST(Tracer, InputsAreKeptAsTheyCame) {
  Traced t;
  t.tracer->Set("", {kTraceTensors, 1, -1, 0});
  auto memory = Buffer::Allocate(4);
  std::memset(memory->data(), 0, 4);
  RequestPtr request = IntRequest(t.model, std::make_shared<KeepingSink>());
  request->inputs[0].data = Slice(memory);
  t.tracer->Begin(*request);
  std::memset(memory->data(), 1, 4);
  request->Answer({});
  request.reset();
  CHECK(IntsOf(t.Take().at(0).record.tensors.at(0).tensor.data) == std::vector<int32_t>{0});
}

TEST(Tracer, LargeTensorsAreNamedWithoutTheirData) {
  TraceRecord record;
  const Tensor large{"L", DType::kUint8, {1}, Slice(Buffer::Allocate(TraceRecord::kMaxTensorBytes))};
  record.Add(false, large, TraceRecord::Data::kShare);
  record.Add(true, {"S", DType::kUint8, {1}, Slice(Buffer::Allocate(1))}, TraceRecord::Data::kShare);
  CHECK(record.tensors[0].complete && !record.tensors[1].complete);
  CHECK(record.tensors[1].tensor.data.empty());
  CHECK(record.size() > TraceRecord::kMaxTensorBytes);
}

TEST(Tracer, MemoryOfTheClientIsLeftAlone) {
  Traced t;
  t.tracer->Set("", {kTraceTensors, 1, -1, 0});
  RequestPtr request = IntRequest(t.model, std::make_shared<KeepingSink>());
  request->uses_shared_memory = true;
  t.tracer->Begin(*request);
  request->uses_shared_memory = false;  // what it would place there
  request->Answer({});
  request.reset();
  const auto traces = t.Take();
  CHECK_EQ(traces.at(0).record.tensors.size(), size_t{1});
  CHECK(!traces[0].record.tensors[0].complete);
}

TEST(Tracer, ErrorsAreRecorded) {
  Traced t;
  t.tracer->Set("", Times(1));
  RequestPtr request = t.Begin();
  request->Fail(FailureReason::kBackend, Status::Internal("no"));
  request.reset();
  CHECK_EQ(t.Take().at(0).record.status.message(), "no");
}

TEST(Tracer, DroppedTracesAreCounted) {
  Traced t({2, size_t{1} << 20});
  t.tracer->Set("", Times(1));
  CHECK_EQ(t.Infer(5), 5);
  const TraceQueue::Counts counts = t.tracer->queue()->counts();
  CHECK(counts.collected == 5 && counts.dropped == 3);
  CHECK_EQ(t.Take().size(), size_t{2});
  CHECK_EQ(t.Infer(1), 1);
  CHECK_EQ(t.Take().size(), size_t{1});
  t.tracer->queue()->Close();
  CHECK_EQ(t.Infer(1), 1);
  CHECK_EQ(t.tracer->queue()->counts().dropped, uint64_t{4});
}

TEST(Tracer, QueueIsBoundedByMemory) {
  Traced t({1000, 2 * sizeof(TraceRecord)});
  t.tracer->Set("", Times(1));
  t.Infer(10);
  CHECK_EQ(t.Take().size(), size_t{1});
  CHECK_EQ(t.tracer->queue()->counts().dropped, uint64_t{9});
}

TEST(Tracer, TracesThatNobodyTakesGoWithTheTracer) {
  std::weak_ptr<TraceQueue> queue;
  RequestPtr unfinished;
  {
    Traced t;
    t.tracer->Set("", Times(1));
    CHECK_EQ(t.Infer(3), 3);
    unfinished = t.Begin();
    queue = t.tracer->queue();
  }
  CHECK(queue.expired());
  CHECK(unfinished->trace != nullptr);  // ends below, where nobody takes it any more
}

TEST(Tracer, ClientsTraceIsAlwaysTracedWhereSpansAre) {
  Traced t;
  t.tracer->Set("", Times(0));
  CHECK(t.Begin("", kParent)->trace == nullptr);
  t.tracer->EnableSpans();
  CHECK(t.Begin("", "nonsense")->trace == nullptr);
  CHECK(t.Begin()->trace == nullptr);
  RequestPtr request = t.Begin("", kParent);
  CHECK(request->trace != nullptr);
  CHECK_EQ(request->trace->Context()->parent.substr(0, 36), "00-0af7651916cd43dd8448eb211c80319c-");
  request.reset();
  const TraceSpans spans = t.Take().at(0).record.spans;
  CHECK_EQ(TraceParentText(spans.trace, spans.parent).substr(0, 53), std::string(kParent).substr(0, 53));
  // Also where the count is used up, but not where tracing is off.
  t.tracer->Set("", Times(1, 0));
  CHECK(t.Begin("", kParent)->trace != nullptr);
  t.tracer->Set("", {0, 0, -1, 0});
  CHECK(t.Begin("", kParent)->trace == nullptr);
}

TEST(Tracer, SpansHaveIdsOfTheirOwn) {
  Traced t;
  t.tracer->EnableSpans();
  t.tracer->Set("", Times(1));
  t.Infer(100);
  std::set<std::string> seen;
  for (const CollectedTrace& trace : t.Take()) {
    const TraceSpans& spans = trace.record.spans;
    CHECK(spans.parent == SpanId{});
    for (const SpanId& span : {spans.root, spans.model, spans.compute}) {
      CHECK(ParseTraceParent(TraceParentText(spans.trace, span)).has_value());
      seen.insert(TraceParentText(spans.trace, span));
    }
  }
  CHECK_EQ(seen.size(), size_t{300});
}

TEST(Tracer, SendsAreNotedInOrder) {
  Traced t;
  t.tracer->Set("", Times(1));
  RequestPtr request = t.Begin();
  std::shared_ptr<Trace> trace = request->trace;
  request->Answer({});
  request.reset();
  trace->BeginSend();
  t.clock->Advance(1);
  trace->BeginSend();
  t.clock->Advance(1);
  trace->EndSend();
  CHECK(t.Take().empty());
  trace.reset();
  const auto traces = t.Take();
  const auto& sends = traces.at(0).record.sends;
  CHECK_EQ(sends.size(), size_t{2});
  CHECK(sends[0].begun == 1000 && sends[0].ended == 1002);
  CHECK(sends[1].begun == 1001 && sends[1].ended == 0);
}

TEST(Tracer, SendsOfAnEndlessStreamAreBounded) {
  Traced t;
  t.tracer->Set("", Times(1));
  RequestPtr request = t.Begin();
  for (size_t i = 0; i < TraceRecord::kMaxSends + 10; ++i) {
    request->trace->BeginSend();
    request->trace->EndSend();
  }
  request.reset();
  CHECK_EQ(t.Take().at(0).record.sends.size(), TraceRecord::kMaxSends);
}

TEST(Tracer, EngineTracesWhatItAccepts) {
  auto clock = std::make_shared<ManualClock>(1);
  Engine engine(clock);
  const auto model = engine.CreateModel(IntModel({}));
  engine.Publish("m", {model}, {});
  engine.tracer()->Set("", Times(1));
  RequestPtr refused = IntRequest(model->spec(), std::make_shared<KeepingSink>());
  refused->inputs.clear();
  engine.Submit(std::move(refused));
  CHECK(engine.tracer()->queue()->Take(std::chrono::milliseconds(0)).empty());
  engine.Submit(IntRequest(model->spec(), std::make_shared<KeepingSink>()));
  model->Stop();
  const auto traces = engine.tracer()->queue()->Take(std::chrono::milliseconds(0));
  CHECK_EQ(traces.size(), size_t{1});
  CHECK_EQ(traces[0].record.timeline.queued, TimeNs{1});
  CHECK_EQ(traces[0].record.timeline.picked, TimeNs{0});
  CHECK(!traces[0].record.status.ok());
}

}  // namespace
}  // namespace pyinfer
