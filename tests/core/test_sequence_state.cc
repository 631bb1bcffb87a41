// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "sched/pack.h"
#include "sched/sequence_source.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::IntModel;
using testing::IntRequest;
using testing::Ints;
using testing::IntsOf;
using testing::KeepingSink;
using testing::SinkPtr;

Tensor Out(std::string name, Shape shape, std::vector<int32_t> values) {
  return {std::move(name), DType::kInt32, std::move(shape), Ints(values)};
}

// A source of a model with one state of INT32 [2] (or of a variable dimension) that begins as {7, 8}.
struct Queue {
  explicit Queue(SequenceOptions::Strategy strategy, Shape dims = {2}, bool shown = false) {
    ModelSpec spec = IntModel({4, true, {4}, 0});
    spec.sequence.emplace();
    spec.sequence->strategy = strategy;
    spec.sequence->slots = 4;
    spec.sequence->max_idle_ns = 1000;
    spec.sequence->states = {{"S_IN", "S_OUT", DType::kInt32, std::move(dims), {2}, Ints({7, 8})}};
    if (shown) spec.outputs.push_back({"S_OUT", DType::kInt32, {-1}, {}, false});
    model = testing::Shared(std::move(spec));
    source = std::make_unique<SequenceSource>(model, clock, std::weak_ptr<ExecutionObserver>());
    source->AddInstance();
  }

  SinkPtr Push(uint64_t sequence, uint32_t flags = 0) {
    auto sink = std::make_shared<KeepingSink>();
    RequestPtr request = IntRequest(model, sink, 1, 1, static_cast<int32_t>(sequence));
    request->correlation_id.number = sequence;
    request->flags = flags;
    request->timeline.queued = clock.Now();
    source->Push(std::move(request));
    return sink;
  }

  Batch Take() { return source->Take(0, clock.Now()); }

  static std::vector<int32_t> State(const Batch& batch, size_t row) {
    const Tensor& state = batch.request(row).inputs.back();
    CHECK_EQ(state.name, "S_IN");
    CHECK(state.shared);  // nobody may write to it
    return IntsOf(state.data);
  }

  // Takes one batch; each row's state is answered as OUT, and goes on as itself plus one.
  std::vector<std::vector<int32_t>> Step() {
    Batch batch = Take();
    std::vector<std::vector<int32_t>> states;
    for (size_t i = 0; i < batch.size(); ++i) {
      states.push_back(State(batch, i));
      std::vector<int32_t> next = states.back();
      for (int32_t& value : next) ++value;
      const auto width = static_cast<int64_t>(next.size());
      batch.Respond(i, {Out("OUT", {1, width}, states.back()), Out("S_OUT", {1, width}, next)}, {});
    }
    return states;
  }

  ManualClock clock{1000};
  std::shared_ptr<const ModelSpec> model;
  std::unique_ptr<SequenceSource> source;
};

using States = std::vector<std::vector<int32_t>>;
constexpr auto kDirect = SequenceOptions::Strategy::kDirect;
constexpr auto kOldest = SequenceOptions::Strategy::kOldest;

TEST(SequenceState, GoesFromEachRequestToTheNextOfItsSequence) {
  for (const auto strategy : {kDirect, kOldest}) {
    Queue queue(strategy);
    queue.Push(1, kSequenceStart);
    CHECK(queue.Step() == (States{{7, 8}}));
    queue.Push(1);
    queue.Push(2, kSequenceStart);
    CHECK(queue.Step() == (States{{8, 9}, {7, 8}}));
    queue.Push(1, kSequenceEnd);
    queue.Push(2);
    CHECK(queue.Step() == (States{{9, 10}, {8, 9}}));
    queue.Push(1, kSequenceStart);
    queue.Push(2, kSequenceStart);  // amid its sequence
    CHECK(queue.Step() == (States{{7, 8}, {7, 8}}));
  }
}

TEST(SequenceState, AFailureLeavesItAsItWas) {
  Queue queue(kOldest);
  queue.Push(1, kSequenceStart);
  queue.Step();
  queue.Push(1);
  queue.Take().FailOpen(Status::Internal("by hand"));
  const SinkPtr half = queue.Push(1);
  {
    Batch batch = queue.Take();
    batch.Respond(0, {Out("S_OUT", {1, 2}, {100, 100})}, {});
  }
  CHECK_EQ(half->message(), "the model 'm' did not return its output 'OUT'");
  queue.Push(1);
  CHECK(queue.Step() == (States{{8, 9}}));
}

TEST(SequenceState, WhatIsNotReturnedStays) {
  Queue queue(kOldest);
  queue.Push(1, kSequenceStart);
  queue.Take().Respond(0, {Out("OUT", {1, 1}, {1})}, {});
  queue.Push(1);
  CHECK(queue.Step() == (States{{7, 8}}));
}

TEST(SequenceState, ClientsSeeItOnlyWhereItIsAnOutputAsWell) {
  for (const bool shown : {false, true}) {
    Queue queue(kDirect, {2}, shown);
    const SinkPtr sink = queue.Push(1, kSequenceStart);
    queue.Step();
    CHECK_EQ(sink->message(), "");
    CHECK_EQ(sink->response.outputs.size(), shown ? size_t{2} : size_t{1});
    if (shown) CHECK(IntsOf(sink->response.outputs[1].data) == (std::vector<int32_t>{8, 9}));
    queue.Push(1);
    CHECK(queue.Step() == (States{{8, 9}}));
  }
}

TEST(SequenceState, MustBeWhatTheConfigurationSays) {
  Queue queue(kDirect);
  Tensor real = Out("S_OUT", {1, 2}, {1, 2});
  real.dtype = DType::kFp32;
  const std::vector<std::pair<Tensor, std::string>> faults = {
      {real, "the data type of state output 'S_OUT' of model 'm' is 'FP32', expected 'INT32'"},
      {Out("S_OUT", {1, 3}, {1, 2, 3}), "the shape of state output 'S_OUT' of model 'm' is [1,3], expected [1,2]"},
      {Out("S_OUT", {2}, {1, 2}), "the shape of state output 'S_OUT' of model 'm' is [2], expected [1,2]"},
  };
  uint32_t flags = kSequenceStart;
  for (const auto& [output, text] : faults) {
    const SinkPtr sink = queue.Push(1, std::exchange(flags, 0));
    queue.Take().Respond(0, {Out("OUT", {1, 1}, {1}), output}, {});
    CHECK_EQ(sink->message(), text);
    CHECK(sink->code() == Code::kInternal);
  }
  queue.Push(1);
  CHECK(queue.Step() == (States{{7, 8}}));
}

TEST(SequenceState, OfABatchIsHandedOnWithoutACopy) {
  Queue queue(kDirect);
  for (const uint64_t id : {1u, 2u, 3u}) queue.Push(id, kSequenceStart);
  const Tensor next = Out("S_OUT", {3, 2}, {10, 11, 20, 21, 30, 31});
  queue.Take().RespondPacked({Out("OUT", {3, 1}, {1, 2, 3}), next});
  for (const uint64_t id : {1u, 2u, 3u}) queue.Push(id);
  {
    Batch batch = queue.Take();
    const Tensor packed = Pack(batch).back();
    CHECK_EQ(ShapeText(packed.shape), "[3,2]");
    CHECK(packed.data.data() == next.data.data());
    CHECK(packed.shared);
    batch.RespondPacked({Out("OUT", {3, 1}, {1, 2, 3}), next});
  }
  // Not all of them: what is apart is put together.
  queue.Push(1);
  queue.Push(3);
  Batch batch = queue.Take();
  CHECK_EQ(batch.size(), size_t{3});  // row 1 is nobody's
  CHECK(IntsOf(Pack(batch).back().data) == (std::vector<int32_t>{10, 11, 10, 11, 30, 31}));
}

TEST(SequenceState, KeepsNoOtherSequencesMemory) {
  Queue queue(kOldest);
  queue.Push(1, kSequenceStart);
  queue.Push(2, kSequenceStart);
  std::weak_ptr<Buffer> kept;
  {
    BufferPtr buffer = Buffer::Allocate(16);
    kept = buffer;
    const std::vector<int32_t> values = {10, 11, 20, 21};
    std::memcpy(buffer->data(), values.data(), 16);
    queue.Take().RespondPacked(
        {Out("OUT", {2, 1}, {1, 2}), {"S_OUT", DType::kInt32, {2, 2}, Slice(std::move(buffer))}});
  }
  CHECK(!kept.expired());
  queue.Push(1);
  CHECK(queue.Step() == (States{{10, 11}}));
  CHECK(kept.expired());
  queue.Push(2, kSequenceEnd);
  CHECK(queue.Step() == (States{{20, 21}}));
}

TEST(SequenceState, EndsWithItsSequence) {
  Queue queue(kOldest);
  std::weak_ptr<Buffer> kept;
  const auto begin = [&] {
    queue.Push(1, kSequenceStart);
    BufferPtr buffer = Buffer::Allocate(8);
    kept = buffer;
    std::memset(buffer->data(), 0, 8);
    queue.Take().Respond(0, {Out("OUT", {1, 1}, {1}), {"S_OUT", DType::kInt32, {1, 2}, Slice(std::move(buffer))}}, {});
    CHECK(!kept.expired());
  };
  begin();
  queue.Push(1, kSequenceEnd);
  queue.Step();
  CHECK(kept.expired());
  begin();
  queue.clock.Advance(1000);
  queue.Take();  // idle for too long
  CHECK(kept.expired());
  begin();
  queue.Push(1)->cancel = true;
  queue.source->Reap();
  CHECK(kept.expired());
  begin();
  queue.source->FailAll(Status::Unavailable("gone"));
  CHECK(kept.expired());
}

TEST(SequenceState, OfDifferentShapesDoNotShareABatch) {
  for (const auto strategy : {kDirect, kOldest}) {
    Queue queue(strategy, {-1});
    queue.Push(1, kSequenceStart);
    queue.Push(2, kSequenceStart);
    {
      Batch batch = queue.Take();
      CHECK_EQ(batch.size(), size_t{2});
      for (size_t i = 0; i < 2; ++i) {
        const std::vector<int32_t> grown(2 + i, 5);
        batch.Respond(i, {Out("OUT", {1, 1}, {1}), Out("S_OUT", {1, static_cast<int64_t>(grown.size())}, grown)}, {});
      }
    }
    queue.Push(1);
    queue.Push(2);
    CHECK(queue.Step() == (States{{5, 5}}));
    const States second = queue.Step();
    CHECK(second.back() == (std::vector<int32_t>{5, 5, 5}));
    queue.Push(1, kSequenceStart);  // what it had does not count any more
    queue.Push(2, kSequenceStart);
    CHECK_EQ(queue.Step().size(), size_t{2});
  }
}

}  // namespace
}  // namespace pyinfer
