// SPDX-License-Identifier: Apache-2.0
// test_slo_source.cc - the queue of a model with a latency SLO, event by event.
#include "check.h"
#include "engine/model.h"
#include "infer/validate.h"
#include "sched/dynamic_source.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::IntRequest;
using testing::KeepingSink;
using testing::SinkPtr;

constexpr TimeNs kMs = 1'000'000;

// One instance; executions take as long as the test says.
class House {
 public:
  explicit House(size_t most_queued = 0) : clock_(std::make_shared<ManualClock>(1000 * kMs)) {
    ModelSpec spec = testing::IntModel({8, true, {}, 0});
    spec.queue.latency_slo_ns = 100 * kMs;
    spec.queue.default_policy.max_queue_size = most_queued;
    model_ = Model::Create(std::move(spec), clock_);
    model_->AddInstance();
  }
  // What is left in the queue holds the model, and the model the queue.
  ~House() { model_->Stop(); }

  SinkPtr Send(int value, uint64_t timeout_us = 0) {
    auto sink = std::make_shared<KeepingSink>();
    RequestPtr request = IntRequest(model_->spec(), sink, 1, 1, value);
    request->id = std::to_string(value);
    request->timeout_us = timeout_us;
    model_->Push(std::move(request));
    return sink;
  }
  // The values of the requests that begin now.
  std::vector<int32_t> Begin() {
    batch_ = model_->TakeNow(0);
    std::vector<int32_t> values;
    for (size_t i = 0; i < batch_.size(); ++i) {
      values.push_back(testing::IntsOf(batch_.request(i).inputs.at(0).data).at(0));
    }
    return values;
  }
  void End(TimeNs ms) {
    clock_->Advance(ms * kMs);
    for (size_t i = 0; i < batch_.size(); ++i)
      batch_.Respond(i, {{"OUT", DType::kInt32, {1, 1}, testing::Ints({0})}}, {});
    batch_.Finish();
  }
  // Single executions of `ms`, so many that it is known.
  void Learn(TimeNs ms) {
    for (int i = 0; i < 5; ++i) {
      Send(0);
      CHECK_EQ(Begin().size(), size_t{1});
      End(ms);
    }
  }
  void Advance(TimeNs ms) { clock_->Advance(ms * kMs); }
  Model& model() { return *model_; }
  TimeNs Now() const { return clock_->Now(); }

 private:
  const std::shared_ptr<ManualClock> clock_;
  std::shared_ptr<Model> model_;
  Batch batch_;
};

using Values = std::vector<int32_t>;

TEST(SloSource, TheEarliestDeadlineIsFirst) {
  House house;
  house.Send(1);
  house.Send(2, 50'000);
  house.Send(3, 20'000);
  house.Send(4, 500'000);  // longer than the SLO: the SLO holds
  CHECK(house.Begin() == Values{3});
  house.End(5);
  CHECK(house.Begin() == Values({2, 1}));  // one row took 5 ms; two at most are tried next
  house.End(5);
  CHECK(house.Begin() == Values{4});
  house.End(5);
}

TEST(SloSource, WhatCanNotBeInTimeIsGivenUpEarly) {
  House house;
  house.Learn(20);
  house.Send(1);
  CHECK(house.Begin() == Values{1});
  const SinkPtr hurried = house.Send(2, 50'000);
  const SinkPtr patient = house.Send(3);
  house.Advance(35);
  house.model().Expire(house.Now());  // 15 ms are left of the 20 that it takes
  CHECK_EQ(hurried->answers.load(), 1);
  CHECK_EQ(hurried->message(), "Request timeout expired");
  CHECK(hurried->code() == Code::kUnavailable);
  CHECK(hurried->reason == FailureReason::kRejected);
  CHECK_EQ(patient->answers.load(), 0);
  house.End(0);
  CHECK(house.Begin() == Values{3});
  house.End(20);
  CHECK_EQ(house.model().Slo()->given_up, uint64_t{1});
  CHECK_EQ(house.model().Statistics().failures[static_cast<size_t>(FailureReason::kRejected)], uint64_t{1});
}

TEST(SloSource, WhatComesTooLateInTheQueueIsShed) {
  House house;
  house.Learn(40);
  house.Send(1);
  CHECK(house.Begin() == Values{1});
  std::vector<SinkPtr> sinks;
  for (int i = 0; i < 50; ++i) sinks.push_back(house.Send(2 + i));
  CHECK_EQ(sinks.front()->answers.load(), 0);
  CHECK_EQ(sinks.back()->answers.load(), 1);
  CHECK_EQ(
      sinks.back()->message(),
      "[request id: 51] model 'm' is over capacity: the request can not be answered within the latency SLO of 100 ms");
  CHECK(sinks.back()->code() == Code::kUnavailable);
  CHECK(sinks.back()->reason == FailureReason::kRejected);
  const uint64_t shed = house.model().Slo()->shed;
  CHECK(shed > 0);
  CHECK_EQ(house.model().pending(), 50 - shed);
  CHECK_EQ(house.model().Statistics().failures[static_cast<size_t>(FailureReason::kRejected)], shed);
}

// However little time there is by what is known: nobody is kept waiting by it, and it may have changed.
TEST(SloSource, AnIdleModelRunsWhatComes) {
  House house;
  house.Learn(300);
  const SinkPtr sink = house.Send(1);
  CHECK_EQ(house.model().RipeAt(0, house.Now()), house.Now());
  CHECK(house.Begin() == Values{1});
  house.End(5);
  CHECK(sink->code() == Code::kOk);
  // But not what is over time.
  const SinkPtr late = house.Send(2, 1000);
  house.Advance(1);
  CHECK(house.Begin().empty());
  CHECK_EQ(late->message(), "Request timeout expired");
}

TEST(SloSource, OtherLimitsOfTheQueueHold) {
  House house(2);
  house.Send(1);
  CHECK(house.Begin() == Values{1});
  house.Send(2);
  house.Send(3);
  CHECK_EQ(house.Send(4)->message(), "[request id: 4] Exceeds maximum queue size");
  house.End(1);
}

TEST(SloSource, CancelledAndUnloadedRequestsAreForgotten) {
  House house;
  house.Learn(40);
  for (int round = 0; round < 20; ++round) {
    house.Send(1);
    const SinkPtr cancelled = house.Send(2);
    CHECK_EQ(cancelled->answers.load(), 0);  // what was cancelled before takes no time of the model
    cancelled->cancel = true;
    house.model().Reap();
    CHECK(house.Begin() == Values{1});
    house.End(40);
  }
  house.model().Stop();
  CHECK_EQ(house.model().pending(), size_t{0});
}

// Of requests that are padded to one length, those between others in the queue: who is given up, and who goes.
TEST(SloSource, BatchesOfPaddedRequestsAreTakenFromBetweenOthers) {
  ManualClock clock(1000 * kMs);
  ModelSpec spec = testing::IntModel({8, true, {}, 0});
  spec.queue.latency_slo_ns = 100 * kMs;
  spec.padding.emplace();
  spec.padding->axes = {{"width", {4, 8}, false, {}, DType::kInvalid}};
  spec.padding->inputs = {{"IN", {{1, 0}}, std::string(4, '\0')}};
  spec.padding->window = 16;
  const auto model = testing::Shared(std::move(spec));
  DynamicSource source(model, clock, std::weak_ptr<ExecutionObserver>());
  source.AddInstance();
  for (const int64_t rows : {1, 2, 3, 4}) {
    for (int i = 0; i < 5; ++i) source.NoteExecuted(rows, 0, (19 + rows) * kMs);
  }
  const auto push = [&](const std::string& id, int64_t width, uint64_t timeout_us) {
    auto sink = std::make_shared<KeepingSink>();
    RequestPtr request = IntRequest(model, sink, 1, width);
    CHECK(ValidateRequest(*request).ok());
    request->id = id;
    request->timeout_us = timeout_us;
    request->timeline.queued = clock.Now();
    request->queue_deadline = QueueDeadline(model->queue, *request);
    source.Push(std::move(request));
    return sink;
  };
  // Alone, the first would be in time, but then nobody else of its length.
  const SinkPtr first = push("a", 1, 20'800);
  const SinkPtr other = push("B", 5, 25'000);
  const SinkPtr second = push("c", 2, 26'000);
  const SinkPtr third = push("d", 3, 26'000);
  Batch batch = source.Take(0, clock.Now());
  CHECK_EQ(first->message(), "Request timeout expired");
  CHECK_EQ(batch.size(), size_t{2});
  CHECK_EQ(batch.request(0).id, "c");
  CHECK_EQ(batch.request(1).id, "d");
  CHECK_EQ(other->answers.load(), 0);
  batch.FailOpen(Status::Internal("enough"));
  batch.Finish();
  batch = source.Take(0, clock.Now());
  CHECK_EQ(batch.size(), size_t{1});
  CHECK_EQ(batch.request(0).id, "B");
  batch.FailOpen(Status::Internal("enough"));
}

TEST(SloSource, ModelsWithoutSloHaveNoReport) {
  const auto clock = std::make_shared<ManualClock>(1);
  CHECK(!Model::Create(testing::IntModel({8, true, {}, 0}), clock)->Slo());
}

}  // namespace
}  // namespace pyinfer
