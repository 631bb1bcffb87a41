// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "sched/dynamic_source.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::IntModel;
using testing::IntRequest;
using testing::KeepingSink;
using testing::SinkPtr;

BatchOptions Dynamic(int64_t max_batch_size, TimeNs delay = 0, std::vector<int64_t> preferred = {}) {
  return {max_batch_size, true, std::move(preferred), delay};
}

// A source, its clock, and the sinks of what was pushed.
struct Queue {
  explicit Queue(BatchOptions options, size_t max_queue_size = 0) {
    ModelSpec spec = IntModel(std::move(options));
    spec.queue.default_policy.max_queue_size = max_queue_size;
    model = testing::Shared(std::move(spec));
    source = std::make_unique<DynamicSource>(model, clock, std::weak_ptr<ExecutionObserver>());
  }

  SinkPtr Push(int64_t rows = 1, int64_t width = 1, bool more_follow = false) {
    auto sink = std::make_shared<KeepingSink>();
    RequestPtr request = IntRequest(model, sink, rows, width);
    request->id = std::to_string(pushed++);
    request->timeline.queued = clock.Now();
    request->more_follow = more_follow;
    accepted = source->Push(std::move(request));
    return sink;
  }

  // "0 1 2": the ids of the batch that is ripe.
  std::string Take() {
    const Batch batch = source->Take(0, clock.Now());
    std::string ids;
    for (size_t i = 0; i < batch.size(); ++i) ids += (i == 0 ? "" : " ") + batch.request(i).id;
    return ids;
  }

  ManualClock clock{1000};
  std::shared_ptr<const ModelSpec> model;
  std::unique_ptr<DynamicSource> source;
  int pushed = 0;
  bool accepted = false;
};

TEST(DynamicSource, TakesInOrder) {
  Queue queue(Dynamic(4));
  CHECK_EQ(queue.Take(), "");
  for (int i = 0; i < 10; ++i) queue.Push();
  CHECK_EQ(queue.source->size(), size_t{10});
  CHECK_EQ(queue.Take(), "0 1 2 3");
  CHECK_EQ(queue.Take(), "4 5 6 7");
  CHECK_EQ(queue.Take(), "8 9");
  CHECK_EQ(queue.Take(), "");
  CHECK_EQ(queue.source->size(), size_t{0});
}

TEST(DynamicSource, NothingIsRipeWhileMoreFollow) {
  Queue queue(Dynamic(4));
  queue.Push(1, 1, /*more_follow=*/true);
  queue.Push(1, 1, /*more_follow=*/true);
  CHECK_EQ(queue.Take(), "");
  CHECK_EQ(queue.source->RipeAt(0, queue.clock.Now()), TimeNs{-1});
  queue.Push();
  CHECK_EQ(queue.Take(), "0 1 2");
  queue.Push(1, 1, /*more_follow=*/true);
  CHECK(queue.source->Wake());
  CHECK_EQ(queue.Take(), "3");
  queue.Push(1, 1, /*more_follow=*/true);
  queue.source->Close();
  CHECK_EQ(queue.Take(), "4");
}

TEST(DynamicSource, WithoutBatching) {
  for (const BatchOptions& options : {BatchOptions{0, false, {}, 0}, BatchOptions{8, false, {4}, 100}}) {
    Queue queue(options);
    queue.Push();
    queue.Push();
    CHECK_EQ(queue.Take(), "0");
    CHECK_EQ(queue.Take(), "1");
  }
}

TEST(DynamicSource, NeverSplitsARequest) {
  Queue queue(Dynamic(4));
  for (const int64_t rows : {3, 2, 2, 4, 1}) queue.Push(rows);
  CHECK_EQ(queue.Take(), "0");
  CHECK_EQ(queue.Take(), "1 2");
  CHECK_EQ(queue.Take(), "3");
  CHECK_EQ(queue.Take(), "4");
}

TEST(DynamicSource, KeepsShapesApart) {
  Queue queue(Dynamic(8));
  for (const int64_t width : {1, 1, 2, 2, 1}) queue.Push(1, width);
  CHECK_EQ(queue.Take(), "0 1");
  CHECK_EQ(queue.Take(), "2 3");
  CHECK_EQ(queue.Take(), "4");
}

TEST(DynamicSource, KeepsDifferentInputsApart) {
  ModelSpec spec = IntModel(Dynamic(8));
  spec.inputs.push_back({"MORE", DType::kInt32, {-1}, {}, true});
  Queue queue(Dynamic(8));
  queue.model = testing::Shared(std::move(spec));
  queue.source = std::make_unique<DynamicSource>(queue.model, queue.clock, std::weak_ptr<ExecutionObserver>());
  queue.Push();
  RequestPtr more = IntRequest(queue.model, std::make_shared<KeepingSink>());
  more->inputs.push_back(more->inputs[0]);
  more->inputs[1].name = "MORE";
  more->id = "more";
  queue.source->Push(std::move(more));
  queue.Push();
  CHECK_EQ(queue.Take(), "0");
  CHECK_EQ(queue.Take(), "more");
  CHECK_EQ(queue.Take(), "1");
}

TEST(DynamicSource, WaitsForTheDelay) {
  Queue queue(Dynamic(4, 100));
  CHECK_EQ(queue.source->RipeAt(0, 1000), TimeNs{-1});
  queue.Push();
  queue.clock.Advance(60);
  queue.Push();
  CHECK_EQ(queue.Take(), "");
  CHECK_EQ(queue.source->RipeAt(0, queue.clock.Now()), TimeNs{1100});
  queue.clock.Advance(40);
  CHECK_EQ(queue.source->RipeAt(0, queue.clock.Now()), TimeNs{1100});
  CHECK_EQ(queue.Take(), "0 1");
}

TEST(DynamicSource, DoesNotWaitForWhatCanNotCome) {
  Queue full(Dynamic(2, 100));
  full.Push();
  full.Push();
  CHECK_EQ(full.Take(), "0 1");
  Queue shapes(Dynamic(4, 100));
  shapes.Push(1, 1);
  shapes.Push(1, 2);
  CHECK_EQ(shapes.Take(), "0");
  CHECK_EQ(shapes.Take(), "");
  Queue rows(Dynamic(4, 100));
  rows.Push(3);
  rows.Push(2);
  CHECK_EQ(rows.Take(), "0");
}

TEST(DynamicSource, PrefersSizes) {
  Queue queue(Dynamic(8, 100, {2, 4}));
  for (int i = 0; i < 5; ++i) queue.Push();
  CHECK_EQ(queue.Take(), "0 1 2 3");
  CHECK_EQ(queue.Take(), "");
  queue.Push();
  CHECK_EQ(queue.Take(), "4 5");
}

TEST(DynamicSource, LimitsTheQueue) {
  Queue queue(Dynamic(4), 2);
  const SinkPtr first = queue.Push();
  queue.Push();
  CHECK(queue.accepted);
  const SinkPtr refused = queue.Push();
  CHECK(!queue.accepted);
  CHECK_EQ(refused->answers.load(), 1);
  CHECK(refused->code() == Code::kUnavailable);
  CHECK_EQ(refused->message(), "[request id: 2] Exceeds maximum queue size");
  CHECK(refused->reason == FailureReason::kRejected);
  CHECK_EQ(first->answers.load(), 0);
  CHECK_EQ(queue.Take(), "0 1");
  queue.Push();
  CHECK(queue.accepted);
}

TEST(DynamicSource, AnswersTheCancelled) {
  Queue queue(Dynamic(4, 100, {2}));
  std::vector<SinkPtr> sinks;
  for (int i = 0; i < 3; ++i) sinks.push_back(queue.Push());
  sinks[0]->cancel = true;
  // Two are left, and two are preferred: the cancelled one does not count.
  CHECK_EQ(queue.Take(), "1 2");
  CHECK_EQ(sinks[0]->answers.load(), 1);
  CHECK(sinks[0]->code() == Code::kCancelled);
  CHECK_EQ(sinks[0]->message(), "");
  CHECK(sinks[0]->reason == FailureReason::kCancelled);
}

TEST(DynamicSource, TheCancelledMakeNoBatchRipe) {
  Queue queue(Dynamic(4, 100));
  std::vector<SinkPtr> sinks;
  for (int i = 0; i < 4; ++i) sinks.push_back(queue.Push());
  for (int i = 0; i < 3; ++i) sinks[static_cast<size_t>(i)]->cancel = true;
  CHECK_EQ(queue.Take(), "");
  CHECK_EQ(queue.source->size(), size_t{1});
  queue.clock.Advance(100);
  CHECK_EQ(queue.Take(), "3");
}

TEST(DynamicSource, TheCancelledSaturateNothing) {
  Queue queue(Dynamic(4, 100));
  queue.Push(3);
  const SinkPtr gone = queue.Push(2);
  gone->cancel = true;
  CHECK_EQ(queue.Take(), "");
  CHECK_EQ(gone->answers.load(), 1);
  queue.Push(1);
  CHECK_EQ(queue.Take(), "0 2");
}

TEST(DynamicSource, ReapsTheCancelled) {
  Queue queue(Dynamic(8, 100));
  std::vector<SinkPtr> sinks;
  for (int i = 0; i < 6; ++i) sinks.push_back(queue.Push());
  sinks[1]->cancel = sinks[4]->cancel = true;
  queue.source->Reap();
  CHECK_EQ(queue.source->size(), size_t{4});
  for (size_t i = 0; i < 6; ++i) CHECK_EQ(sinks[i]->answers.load(), i == 1 || i == 4 ? 1 : 0);
  queue.clock.Advance(100);
  CHECK_EQ(queue.Take(), "0 2 3 5");
}

TEST(DynamicSource, ClosedDoesNotWait) {
  Queue queue(Dynamic(8, 100));
  queue.Push();
  queue.source->Close();
  const SinkPtr late = queue.Push();
  CHECK(late->code() == Code::kUnavailable);
  CHECK_EQ(late->message(), "Server is stopping, scheduler for model has stopped accepting new inference requests");
  CHECK_EQ(queue.source->RipeAt(0, 1000), TimeNs{1000});
  CHECK(queue.source->Wait(0));
  CHECK_EQ(queue.Take(), "0");
  CHECK(!queue.source->Wait(0));
}

TEST(DynamicSource, FailsAll) {
  Queue queue(Dynamic(8, 100));
  std::vector<SinkPtr> sinks;
  for (int i = 0; i < 3; ++i) sinks.push_back(queue.Push());
  queue.source->FailAll(Status::Unavailable("gone"));
  for (const SinkPtr& sink : sinks) {
    CHECK_EQ(sink->answers.load(), 1);
    CHECK_EQ(sink->message(), "gone");
    CHECK(sink->reason == FailureReason::kRejected);
  }
  CHECK(!queue.source->Wait(0));
  CHECK_EQ(queue.Take(), "");
}

TEST(DynamicSource, AnswersWhatIsLeftWhenItGoes) {
  SinkPtr sink;
  {
    Queue queue(Dynamic(8, 100));
    sink = queue.Push();
  }
  CHECK_EQ(sink->answers.load(), 1);
  CHECK(sink->code() == Code::kInternal);
}

TEST(DynamicSource, ANudgeEndsTheWaitOfOneInstance) {
  const SystemClock clock;
  DynamicSource source(testing::Shared(IntModel(Dynamic(8, 0))), clock, std::weak_ptr<ExecutionObserver>());
  const size_t first = source.AddInstance(), second = source.AddInstance();
  source.Nudge(second);
  CHECK(source.Wait(second));  // it counts where nobody waits yet
  std::atomic<int> waits{0};
  std::thread waiting([&] {
    while (source.Wait(first)) waits.fetch_add(1);
  });
  for (int i = 0; i < 100; ++i) {
    std::thread nudged([&] { CHECK(source.Wait(second)); });
    source.Nudge(second);
    nudged.join();
  }
  CHECK_EQ(waits.load(), 0);
  source.Close();
  waiting.join();
  CHECK(!source.Wait(second));
}

// Waiting threads take everything, and all of them end.
TEST(DynamicSource, ServesManyWaitingThreads) {
  constexpr int kRequests = 4000;
  const SystemClock clock;
  const auto model = testing::Shared(IntModel(Dynamic(4, 20'000, {4})));
  DynamicSource source(model, clock, std::weak_ptr<ExecutionObserver>());
  std::atomic<int> taken{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, instance = source.AddInstance()] {
      while (source.Wait(instance)) {
        Batch batch = source.Take(instance, clock.Now());
        taken.fetch_add(static_cast<int>(batch.size()));
        batch.FailOpen(Status::Internal("x"));
      }
    });
  }
  std::vector<SinkPtr> sinks;
  for (int i = 0; i < kRequests; ++i) {
    sinks.push_back(std::make_shared<KeepingSink>());
    RequestPtr request = IntRequest(model, sinks.back());
    request->timeline.queued = clock.Now();
    source.Push(std::move(request));
    if (i % 7 == 0) source.Wake();
  }
  source.Wake();
  source.Close();
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(taken.load(), kRequests);
  for (const SinkPtr& sink : sinks) CHECK_EQ(sink->answers.load(), 1);
}

}  // namespace
}  // namespace pyinfer
