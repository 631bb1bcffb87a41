// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "infer/answer_order.h"
#include "sched/dynamic_source.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::IntModel;
using testing::Ints;
using testing::KeepingSink;
using testing::SinkPtr;

// A queue whose answers leave in order; sinks note the order of their answers.
struct Queue {
  Queue() {
    BatchOptions batching{1, true, {1}, 0};
    batching.preserve_ordering = true;
    model = testing::Shared(IntModel(std::move(batching)));
    source = std::make_unique<DynamicSource>(model, clock, std::weak_ptr<ExecutionObserver>());
  }

  SinkPtr Push() {
    auto sink = std::make_shared<KeepingSink>(static_cast<int>(pushed++), &order);
    source->Push(testing::IntRequest(model, sink));
    return sink;
  }

  ManualClock clock{100};
  std::shared_ptr<const ModelSpec> model;
  std::unique_ptr<DynamicSource> source;
  std::vector<int> order;
  size_t pushed = 0;
};

void Answer(Batch& batch) {
  for (size_t i = 0; i < batch.size(); ++i) batch.Respond(i, {{"OUT", DType::kInt32, {1, 1}, Ints({1})}}, {});
  batch.Finish();
}

TEST(AnswerOrder, AnAnswerWaitsForThoseBeforeIt) {
  Queue queue;
  std::vector<SinkPtr> sinks;
  std::vector<Batch> batches;
  for (int i = 0; i < 3; ++i) sinks.push_back(queue.Push());
  for (int i = 0; i < 3; ++i) batches.push_back(queue.source->Take(0, 100));
  Answer(batches[2]);
  Answer(batches[1]);
  CHECK(queue.order.empty());
  Answer(batches[0]);
  CHECK(queue.order == (std::vector<int>{0, 1, 2}));
  for (const SinkPtr& sink : sinks) CHECK_EQ(sink->message(), "");
}

TEST(AnswerOrder, WhoIsAnsweredOutOfTurnHoldsNobodyUp) {
  Queue queue;
  const SinkPtr cancelled = queue.Push();
  const SinkPtr failed = queue.Push();
  queue.Push();
  cancelled->cancel = true;
  Batch first = queue.source->Take(0, 100);
  Batch second = queue.source->Take(0, 100);
  CHECK(queue.order == (std::vector<int>{0}));
  Answer(second);
  CHECK(queue.order == (std::vector<int>{0}));
  first.FailOpen(Status::Internal("by hand"));
  first.Finish();
  CHECK(queue.order == (std::vector<int>{0, 1, 2}));
  CHECK_EQ(failed->message(), "by hand");
  queue.Push();
  queue.source->FailAll(Status::Unavailable("gone"));
  CHECK_EQ(queue.order.back(), 3);
}

TEST(AnswerOrder, ALongWaitIsNoDeepRecursion) {
  Queue queue;
  constexpr int kMany = 50000;
  std::vector<Batch> batches;
  for (int i = 0; i < kMany; ++i) queue.Push();
  for (int i = 0; i < kMany; ++i) batches.push_back(queue.source->Take(0, 100));
  for (int i = kMany - 1; i >= 0; --i) Answer(batches[static_cast<size_t>(i)]);
  CHECK_EQ(queue.order.size(), size_t{kMany});
  CHECK(std::is_sorted(queue.order.begin(), queue.order.end()));
}

TEST(AnswerOrder, ManyInstances) {
  Queue queue;
  constexpr size_t kMany = 2000;
  for (size_t i = 0; i < kMany; ++i) queue.Push();
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&queue, seed] {
      std::mt19937 random(seed);
      std::vector<Batch> held;
      for (;;) {
        Batch batch = queue.source->Take(0, 100);
        if (batch.empty()) break;
        held.push_back(std::move(batch));
        if (random() % 3 != 0) continue;
        std::shuffle(held.begin(), held.end(), random);
        for (Batch& one : held) Answer(one);
        held.clear();
      }
      for (Batch& one : held) Answer(one);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(queue.order.size(), kMany);  // only one thread delivers at a time
  CHECK(std::is_sorted(queue.order.begin(), queue.order.end()));
}

}  // namespace
}  // namespace pyinfer
