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
  explicit Queue(bool decoupled = false) {
    BatchOptions batching{1, true, {1}, 0};
    batching.preserve_ordering = true;
    ModelSpec spec = IntModel(std::move(batching));
    spec.decoupled = decoupled;
    model = testing::Shared(std::move(spec));
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

std::vector<Tensor> One(int32_t value = 1) { return {{"OUT", DType::kInt32, {1, 1}, Ints({value})}}; }

void Answer(Batch& batch) {
  for (size_t i = 0; i < batch.size(); ++i) batch.Respond(i, One(), {});
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

// Of several responses those of whoever is next leave as they come.
TEST(AnswerOrder, SeveralResponses) {
  Queue queue(/*decoupled=*/true);
  std::vector<SinkPtr> sinks;
  std::vector<std::shared_ptr<Responder>> responders;
  for (int i = 0; i < 3; ++i) sinks.push_back(queue.Push());
  for (int i = 0; i < 3; ++i) responders.push_back(queue.source->Take(0, 100).Detach(0));
  const auto send = [&](size_t index) { CHECK(responders[index]->Send(One(), {}, false)); };
  const auto check = [&](size_t first, size_t second, size_t third) {
    CHECK_EQ(sinks[0]->partial.size(), first);
    CHECK_EQ(sinks[1]->partial.size(), second);
    CHECK_EQ(sinks[2]->partial.size(), third);
  };
  send(1);
  send(2);
  send(0);
  check(1, 0, 0);
  CHECK(responders[2]->End());
  CHECK(responders[0]->Send(One(), {}, true));
  check(1, 1, 0);
  send(1);
  check(1, 2, 0);
  CHECK(queue.order == (std::vector<int>{0}));
  responders[1].reset();
  check(1, 2, 1);
  CHECK(queue.order == (std::vector<int>{0, 1, 2}));
}

// Each on a thread of its own, ended whenever it likes.
TEST(AnswerOrder, SeveralResponsesFromManyThreads) {
  Queue queue(/*decoupled=*/true);
  constexpr int kRequests = 200, kResponses = 20;
  std::vector<SinkPtr> sinks;
  std::vector<std::shared_ptr<Responder>> responders;
  for (int i = 0; i < kRequests; ++i) sinks.push_back(queue.Push());
  for (int i = 0; i < kRequests; ++i) responders.push_back(queue.source->Take(0, 100).Detach(0));
  std::vector<std::thread> threads;
  for (size_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (size_t i = thread; i < responders.size(); i += 4) {
        for (int n = 0; n < kResponses; ++n) CHECK(responders[i]->Send(One(n), {}, false));
        CHECK(responders[i]->End());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(queue.order.size(), size_t{kRequests});
  CHECK(std::is_sorted(queue.order.begin(), queue.order.end()));
  for (const SinkPtr& sink : sinks) {
    CHECK_EQ(sink->partial.size(), size_t{kResponses});
    for (int n = 0; n < kResponses; ++n) {
      CHECK_EQ(testing::IntsOf(sink->partial[static_cast<size_t>(n)].outputs.at(0).data).at(0), n);
    }
  }
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
