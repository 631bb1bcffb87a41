// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "sched/sequence_source.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::IntModel;
using testing::IntRequest;
using testing::IntsOf;
using testing::KeepingSink;
using testing::SinkPtr;
using Kind = SequenceControl::Kind;

constexpr TimeNs kIdle = 1000;

SequenceOptions Options(SequenceOptions::Strategy strategy, size_t slots) {
  const auto element = [](int32_t value) { return Slice::Copy(&value, sizeof(value)); };
  SequenceOptions options;
  options.strategy = strategy;
  options.slots = slots;
  options.max_idle_ns = kIdle;
  options.controls = {{Kind::kStart, "START", DType::kInt32, element(0), element(1)},
                      {Kind::kReady, "READY", DType::kInt32, element(0), element(1)},
                      {Kind::kEnd, "END", DType::kInt32, element(0), element(1)},
                      {Kind::kCorrelationId, "CORRID", DType::kUint64, {}, {}}};
  return options;
}

// A source with instances, its clock, and the sinks of what was pushed.
struct Queue {
  explicit Queue(SequenceOptions options, size_t instances = 1, BatchOptions batching = {4, true, {4}, 0}) {
    ModelSpec spec = IntModel(std::move(batching));
    spec.sequence = std::move(options);
    model = testing::Shared(std::move(spec));
    source = std::make_unique<SequenceSource>(model, clock, std::weak_ptr<ExecutionObserver>());
    for (size_t i = 0; i < instances; ++i) CHECK_EQ(source->AddInstance(), i);
  }

  // `timeout`: for how long the request may wait in the backlog; 0: for ever.
  SinkPtr Push(uint64_t sequence, uint32_t flags = 0, int64_t width = 1, TimeNs timeout = 0, bool more_follow = false) {
    auto sink = std::make_shared<KeepingSink>();
    RequestPtr request = IntRequest(model, sink, 1, width, static_cast<int32_t>(sequence));
    request->correlation_id.number = sequence;
    request->flags = flags;
    request->more_follow = more_follow;
    request->timeline.queued = clock.Now();
    if (timeout != 0) request->queue_deadline = clock.Now() + timeout;
    accepted = source->Push(std::move(request));
    return sink;
  }

  // "7:SR -:": for each row of the batch that is ripe its correlation id and its controls (S, R, E).
  std::string Take(size_t instance = 0) {
    const Batch batch = source->Take(instance, clock.Now());
    std::string rows;
    for (size_t i = 0; i < batch.size(); ++i) {
      const Request& request = batch.request(i);
      CHECK_EQ(request.inputs.size(), size_t{5});
      const uint64_t id = *reinterpret_cast<const uint64_t*>(request.inputs[4].data.data());
      CHECK_EQ(id, request.correlation_id.number);
      rows += (i == 0 ? "" : " ") + (id == 0 ? std::string("-") : std::to_string(id)) + ":";
      for (size_t control = 1; control <= 3; ++control) {
        CHECK((request.inputs[control].shape == Shape{1, 1}));
        if (IntsOf(request.inputs[control].data).at(0) == 1) rows += request.inputs[control].name[0];
      }
    }
    return rows;
  }

  ManualClock clock{1000};
  std::shared_ptr<const ModelSpec> model;
  std::unique_ptr<SequenceSource> source;
  bool accepted = false;
};

Queue Direct(size_t slots, size_t instances = 1) {
  return Queue(Options(SequenceOptions::Strategy::kDirect, slots), instances);
}

TEST(SequenceSource, ASequenceKeepsItsRowAndEmptyOnesAreNotReady) {
  Queue queue = Direct(3);
  for (const uint64_t id : {7u, 8u, 9u}) queue.Push(id, kSequenceStart);
  CHECK_EQ(queue.Take(), "7:SR 8:SR 9:SR");
  CHECK_EQ(queue.Take(), "");
  queue.Push(9);
  CHECK_EQ(queue.Take(), "-: -: 9:R");
  queue.Push(8, kSequenceEnd);
  CHECK_EQ(queue.Take(), "-: 8:RE");
  queue.Push(7);
  queue.Push(7, kSequenceEnd);
  CHECK_EQ(queue.Take(), "7:R");
  CHECK_EQ(queue.Take(), "7:RE");
  queue.Push(6, kSequenceStart | kSequenceEnd);
  CHECK_EQ(queue.Take(), "6:SRE");
  CHECK_EQ(queue.source->size(), size_t{0});
}

TEST(SequenceSource, NothingIsRipeWhileMoreFollow) {
  Queue queue(Options(SequenceOptions::Strategy::kOldest, 2));
  queue.Push(7, kSequenceStart, 1, 0, /*more_follow=*/true);
  CHECK_EQ(queue.Take(), "");
  CHECK_EQ(queue.source->RipeAt(0, queue.clock.Now()), TimeNs{-1});
  queue.Push(9, kSequenceStart);
  CHECK_EQ(queue.Take(), "7:SR 9:SR");
  queue.Push(7, 0, 1, 0, /*more_follow=*/true);
  CHECK(queue.source->Wake());
  CHECK_EQ(queue.Take(), "7:R");
}

TEST(SequenceSource, RowsThatAreNobodysAreAnsweredToNobody) {
  Queue queue = Direct(2);
  queue.Push(1, kSequenceStart);
  queue.Push(2, kSequenceStart);
  queue.source->Take(0, queue.clock.Now());
  const SinkPtr sink = queue.Push(2);
  {
    Batch batch = queue.source->Take(0, queue.clock.Now());
    CHECK_EQ(batch.size(), size_t{2});
    CHECK_EQ(batch.rows(), int64_t{2});
    for (size_t i = 0; i < 2; ++i) batch.Respond(i, {{"OUT", DType::kInt32, {1, 1}, testing::Ints({1})}}, {});
  }
  CHECK_EQ(sink->answers.load(), 1);
  CHECK(sink->response.status.ok());
}

TEST(SequenceSource, SequencesSpreadOverInstancesThenWaitInTheBacklog) {
  Queue queue = Direct(1, 2);
  for (const uint64_t id : {1u, 2u, 3u, 4u}) queue.Push(id, kSequenceStart);
  queue.Push(3, kSequenceEnd);
  CHECK_EQ(queue.Take(0), "1:SR");
  CHECK_EQ(queue.Take(1), "2:SR");
  CHECK_EQ(queue.Take(0) + queue.Take(1), "");
  CHECK_EQ(queue.source->size(), size_t{3});
  queue.Push(2, kSequenceEnd);
  CHECK_EQ(queue.Take(1), "2:RE");
  CHECK_EQ(queue.Take(1), "3:SR");
  CHECK_EQ(queue.Take(1), "3:RE");
  CHECK_EQ(queue.Take(1), "4:SR");
  CHECK_EQ(queue.Take(0), "");
}

TEST(SequenceSource, WhatIsRefused) {
  Queue queue = Direct(1);
  const auto refused = [&](const SinkPtr& sink, std::string_view text) {
    CHECK(!queue.accepted);
    CHECK_EQ(sink->answers.load(), 1);
    CHECK(sink->code() == Code::kInvalidArg);
    CHECK_EQ(sink->message(), std::string(text));
  };
  refused(queue.Push(0, kSequenceStart),
          "inference request to model 'm' must specify a non-zero or non-empty correlation ID");
  refused(queue.Push(5),
          "inference request for sequence 5 to model 'm' must specify the START flag on the first request of the "
          "sequence");
  queue.Push(5, kSequenceStart | kSequenceEnd);
  CHECK(queue.accepted);
  refused(queue.Push(5, kSequenceEnd),
          "inference request for sequence 5 to model 'm' must specify the START flag on the first request of the "
          "sequence");
  auto sink = std::make_shared<KeepingSink>();
  RequestPtr wide = IntRequest(queue.model, sink, 2);
  wide->correlation_id.number = 1;
  queue.accepted = queue.source->Push(std::move(wide));
  refused(sink, "inference request to model 'm' must specify batch-size 1 due to requirements of sequence batcher");
  sink = std::make_shared<KeepingSink>();
  RequestPtr text = IntRequest(queue.model, sink);
  text->correlation_id.text = "a";
  text->flags = kSequenceStart;
  queue.accepted = queue.source->Push(std::move(text));
  refused(sink, "model 'm' expects a correlation ID of type UINT64, got a string");
}

TEST(SequenceSource, AStartAmidASequenceBeginsItAnewInItsPlace) {
  Queue queue = Direct(2);
  queue.Push(1, kSequenceStart);
  queue.Push(1, kSequenceStart);
  CHECK_EQ(queue.Take(), "1:SR");
  CHECK_EQ(queue.Take(), "1:SR");
  queue.Push(1);
  CHECK_EQ(queue.Take(), "1:R");
}

TEST(SequenceSource, AnIdleSequenceLosesItsPlace) {
  Queue queue = Direct(1);
  queue.Push(1, kSequenceStart);
  queue.Push(2, kSequenceStart);
  CHECK_EQ(queue.Take(), "1:SR");
  CHECK_EQ(queue.source->RipeAt(0, queue.clock.Now()), TimeNs{1000 + kIdle});
  queue.clock.Advance(kIdle - 1);
  CHECK_EQ(queue.Take(), "");
  queue.clock.Advance(1);
  CHECK_EQ(queue.Take(), "2:SR");
  queue.Push(1);
  CHECK(!queue.accepted);
  // One whose requests wait is not idle.
  queue.Push(2);
  queue.clock.Advance(10 * kIdle);
  queue.Push(2);
  CHECK(queue.accepted);
  CHECK_EQ(queue.Take() + queue.Take(), "2:R2:R");
}

TEST(SequenceSource, ASequenceWaitsInTheBacklogAsLongAsEachOfItsRequestsMay) {
  Queue queue = Direct(1);
  const SinkPtr placed = queue.Push(1, kSequenceStart, 1, 5);
  const SinkPtr first = queue.Push(2, kSequenceStart, 1, 50);
  const SinkPtr second = queue.Push(2, 0, 1, 20);
  const SinkPtr patient = queue.Push(3, kSequenceStart);
  const SinkPtr later = queue.Push(4, kSequenceStart, 1, 100);
  CHECK_EQ(queue.source->Expire(queue.clock.Now()), TimeNs{1020});
  queue.clock.Advance(19);
  CHECK_EQ(queue.source->Expire(queue.clock.Now()), TimeNs{1020});
  CHECK_EQ(first->answers.load(), 0);
  queue.clock.Advance(1);
  CHECK_EQ(queue.source->Expire(queue.clock.Now()), TimeNs{1100});
  for (const SinkPtr& sink : {first, second}) {
    CHECK_EQ(sink->answers.load(), 1);
    CHECK(sink->code() == Code::kUnavailable);
    CHECK_EQ(sink->message(), "timeout of the corresponding sequence has been expired");
    CHECK(sink->reason == FailureReason::kRejected);
  }
  queue.Push(2, kSequenceEnd);  // it is no sequence any more
  CHECK(!queue.accepted);
  // One that has its place is not given up, nor is one that nothing limits.
  CHECK_EQ(placed->answers.load() + patient->answers.load() + later->answers.load(), 0);
  queue.Push(1, kSequenceEnd);
  for (const char* rows : {"1:SR", "1:RE", "3:SR"}) CHECK_EQ(queue.Take(), rows);
  queue.clock.Advance(200);
  CHECK_EQ(queue.source->Expire(queue.clock.Now()), TimeNs{0});
  CHECK_EQ(later->answers.load(), 1);
  CHECK_EQ(queue.source->size(), size_t{0});
}

TEST(SequenceSource, ACancelledRequestGivesItsSequenceUp) {
  Queue queue = Direct(1);
  const SinkPtr first = queue.Push(1, kSequenceStart);
  const SinkPtr second = queue.Push(1);
  const SinkPtr waiting = queue.Push(2, kSequenceStart);
  second->cancel = true;
  queue.source->Reap();
  for (const SinkPtr& sink : {first, second}) {
    CHECK_EQ(sink->answers.load(), 1);
    CHECK(sink->code() == Code::kCancelled);
  }
  queue.Push(1);
  CHECK(!queue.accepted);
  CHECK_EQ(queue.Take(), "2:SR");
  const SinkPtr in_backlog = queue.Push(3, kSequenceStart);
  in_backlog->cancel = true;
  CHECK_EQ(queue.Take(), "");
  CHECK_EQ(in_backlog->answers.load(), 1);
  CHECK_EQ(waiting->answers.load(), 1);  // its batch was dropped unanswered
}

TEST(SequenceSource, DifferentShapesDoNotShareABatch) {
  Queue queue = Direct(2);
  queue.Push(1, kSequenceStart, 3);
  queue.Push(2, kSequenceStart, 4);
  CHECK_EQ(queue.Take(), "1:SR");
  CHECK_EQ(queue.Take(), "-: 2:SR");
}

TEST(SequenceSource, SlotUtilizationIsWaitedForNoLongerThanTheDelay) {
  SequenceOptions options = Options(SequenceOptions::Strategy::kDirect, 2);
  options.minimum_slot_utilization = 1.0;
  Queue queue(std::move(options), 1, {2, true, {}, 100});
  queue.Push(1, kSequenceStart);
  CHECK_EQ(queue.Take(), "");
  CHECK_EQ(queue.source->RipeAt(0, queue.clock.Now()), TimeNs{1100});
  queue.Push(2, kSequenceStart);
  CHECK_EQ(queue.Take(), "1:SR 2:SR");
  queue.Push(2);
  queue.clock.Advance(100);
  CHECK_EQ(queue.Take(), "-: 2:R");
}

TEST(SequenceSource, OldestTakesOneRequestOfEachSequence) {
  Queue queue(Options(SequenceOptions::Strategy::kOldest, 3), 1, {2, true, {2}, 0});
  queue.Push(3, kSequenceStart);
  queue.clock.Advance(1);
  queue.Push(1, kSequenceStart);
  queue.Push(3);
  queue.clock.Advance(1);
  queue.Push(2, kSequenceStart);
  queue.Push(4, kSequenceStart);
  CHECK_EQ(queue.Take(), "3:SR 1:SR");
  CHECK_EQ(queue.Take(), "3:R 2:SR");
  CHECK_EQ(queue.Take(), "");
  queue.Push(1, kSequenceEnd);
  CHECK_EQ(queue.Take(), "1:RE");
  CHECK_EQ(queue.Take(), "4:SR");
}

// A model may answer some requests after their batch: their instance's later answers wait for them, others' do not.
TEST(SequenceSource, OldestKeepsTheOrderOfItsAnswersBeyondABatch) {
  for (const bool ordered : {true, false}) {
    BatchOptions batching = {2, true, {}, 0};
    batching.preserve_ordering = ordered;
    Queue queue(Options(SequenceOptions::Strategy::kOldest, 2), 2, batching);
    const SinkPtr first = queue.Push(1, kSequenceStart);  // at instance 0
    const SinkPtr other = queue.Push(2, kSequenceStart);  // at instance 1
    Batch batch = queue.source->Take(0, queue.clock.Now());
    const std::shared_ptr<Responder> late = batch.Detach(0);
    batch.Finish();
    const SinkPtr second = queue.Push(1);
    const std::vector<Tensor> out = {{"OUT", DType::kInt32, {1, 1}, testing::Ints({1})}};
    for (const size_t instance : {0u, 1u}) {
      Batch next = queue.source->Take(instance, queue.clock.Now());
      CHECK_EQ(next.size(), size_t{1});
      next.Respond(0, out, {});
    }
    CHECK_EQ(other->answers.load(), 1);
    CHECK_EQ(second->answers.load(), ordered ? 0 : 1);
    late->Send(out, {}, /*final=*/true);
    CHECK(first->answers.load() == 1 && second->answers.load() == 1);
  }
}

TEST(SequenceSource, ClosedItFinishesWhatItHasAndRefusesMore) {
  Queue queue = Direct(1);
  queue.Push(1, kSequenceStart);
  queue.Push(2, kSequenceStart | kSequenceEnd);
  queue.source->Close();
  const SinkPtr late = queue.Push(1);
  CHECK(late->code() == Code::kUnavailable);
  CHECK(queue.source->Wait(0));
  CHECK_EQ(queue.Take(), "1:SR");
  std::thread waiter([&] {
    // The backlog is not empty: the slot's idle time has to pass first.
    while (queue.source->Wait(0)) {
      if (!queue.source->Take(0, queue.clock.Now()).empty()) continue;
    }
  });
  queue.clock.Advance(kIdle);
  queue.source->Wake();
  queue.source->Close();
  waiter.join();
  CHECK_EQ(queue.source->size(), size_t{0});
}

TEST(SequenceSource, RemovedInstanceKeepsItsSequences) {
  Queue queue = Direct(1, 2);
  queue.Push(1, kSequenceStart);
  queue.Push(2, kSequenceStart);
  queue.source->RemoveInstance(0);
  CHECK_EQ(queue.Take(0), "1:SR");
  queue.Push(3, kSequenceStart);  // no slot: it waits for one of the other instance
  queue.Push(1, kSequenceEnd);
  CHECK(queue.source->Wait(0));
  CHECK_EQ(queue.Take(0), "1:RE");
  CHECK(!queue.source->Wait(0));
  CHECK_EQ(queue.Take(0), "");
  CHECK_EQ(queue.Take(1), "2:SR");
  queue.Push(2, kSequenceEnd);
  CHECK_EQ(queue.Take(1), "2:RE");
  CHECK_EQ(queue.Take(1), "3:SR");
}

TEST(SequenceSource, RemovedInstanceEndsWithItsLastSequence) {
  for (const bool by_cancellation : {false, true}) {
    Queue queue = Direct(1, 2);
    const SinkPtr sink = queue.Push(1, kSequenceStart);
    if (!by_cancellation) CHECK_EQ(queue.Take(0), "1:SR");
    queue.source->RemoveInstance(0);
    std::thread waiter([&] {
      while (queue.source->Wait(0)) {
        if (by_cancellation) sink->cancel = true;
        queue.source->Take(0, queue.clock.Now()).FailOpen(Status::Internal("by hand"));
      }
    });
    queue.clock.Advance(kIdle);
    queue.source->RemoveInstance(0);  // wakes it; nothing else does before its clock says so
    waiter.join();
  }
}

TEST(SequenceSource, FailAllAnswersWhatIsQueued) {
  Queue queue = Direct(1);
  const std::vector<SinkPtr> sinks = {queue.Push(1, kSequenceStart), queue.Push(1), queue.Push(2, kSequenceStart)};
  queue.source->FailAll(Status::Unavailable("gone"));
  for (const SinkPtr& sink : sinks) CHECK_EQ(sink->message(), "gone");
  CHECK(!queue.source->Wait(0));
  CHECK_EQ(queue.source->size(), size_t{0});
}

}  // namespace
}  // namespace pyinfer
