// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "infer/validate.h"
#include "sched/dynamic_source.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::KeepingSink;
using testing::SinkPtr;

constexpr size_t kWindow = 6;

// A queue of requests of any width, padded to 4, 8 or 16.
struct Queue {
  explicit Queue(BatchOptions options, QueueOptions queue = {}) {
    ModelSpec spec = testing::IntModel(std::move(options));
    spec.queue = std::move(queue);
    PaddingOptions padding;
    padding.axes = {{"width", {4, 8, 16}, false, {}, DType::kInvalid}};
    padding.inputs = {{"IN", {{1, 0}}, std::string(4, '\0')}};
    padding.window = kWindow;
    spec.padding = std::move(padding);
    model = testing::Shared(std::move(spec));
    source = std::make_unique<DynamicSource>(model, clock, std::weak_ptr<ExecutionObserver>());
  }

  SinkPtr Push(const std::string& id, int64_t width, int64_t rows = 1, uint64_t priority = 0) {
    auto sink = std::make_shared<KeepingSink>();
    RequestPtr request = testing::IntRequest(model, sink, rows, width);
    CHECK(ValidateRequest(*request).ok());
    request->id = id;
    request->priority = priority;
    request->timeline.queued = clock.Now();
    source->Push(std::move(request));
    return sink;
  }

  // "a b c": the ids of the batch that is ripe, all of one shape.
  std::string Take() {
    const Batch batch = source->Take(0, clock.Now());
    std::string ids;
    for (size_t i = 0; i < batch.size(); ++i) {
      ids += (i == 0 ? "" : " ") + batch.request(i).id;
      CHECK_EQ(batch.request(i).inputs[0].shape[1], batch.request(0).inputs[0].shape[1]);
    }
    return ids;
  }

  ManualClock clock{1000};
  std::shared_ptr<const ModelSpec> model;
  std::unique_ptr<DynamicSource> source;
};

BatchOptions Dynamic(int64_t max_batch_size, TimeNs delay = 0, std::vector<int64_t> preferred = {}) {
  return {max_batch_size, true, std::move(preferred), delay};
}

TEST(PaddingQueue, LikeOnesAreFoundBehindOthers) {
  Queue queue(Dynamic(4));
  for (const auto& [id, width] :
       std::vector<std::pair<std::string, int64_t>>{{"a", 1}, {"B", 5}, {"c", 4}, {"D", 8}, {"e", 2}, {"F", 6}}) {
    queue.Push(id, width);
  }
  CHECK_EQ(queue.Take(), "a c e");
  CHECK_EQ(queue.Take(), "B D F");
  CHECK_EQ(queue.Take(), "");
}

TEST(PaddingQueue, TheFirstIsAlwaysTakenAndLikeOnesKeepTheirOrder) {
  Queue queue(Dynamic(4));
  queue.Push("a", 1, 3);
  queue.Push("B", 5);
  queue.Push("c", 1, 2);  // does not fit: d is not to overtake it
  queue.Push("d", 1);
  CHECK_EQ(queue.Take(), "a");
  CHECK_EQ(queue.Take(), "B");
  CHECK_EQ(queue.Take(), "c d");
}

TEST(PaddingQueue, LooksNoFurtherThanTheWindow) {
  Queue queue(Dynamic(8));
  queue.Push("a", 1);
  for (size_t i = 1; i < kWindow; ++i) queue.Push("B", 5);
  queue.Push("c", 1);
  CHECK_EQ(queue.Take(), "a");
  CHECK_EQ(queue.Take(), "B B B B B");
  CHECK_EQ(queue.Take(), "c");
}

TEST(PaddingQueue, WaitsForCompanionsUnlessOthersFillABatch) {
  Queue queue(Dynamic(3, 100, {3}));
  queue.Push("a", 1);
  queue.Push("B", 5);
  queue.Push("C", 5);
  CHECK_EQ(queue.source->RipeAt(0, queue.clock.Now()), TimeNs{1100});
  CHECK_EQ(queue.Take(), "");
  queue.Push("D", 5);
  CHECK_EQ(queue.source->RipeAt(0, queue.clock.Now()), TimeNs{1000});
  CHECK_EQ(queue.Take(), "a");
  CHECK_EQ(queue.Take(), "B C D");
}

TEST(PaddingQueue, AWindowThatIsFullOfOthersIsNotWaitedFor) {
  Queue queue(Dynamic(100, 1000));
  queue.Push("a", 1);
  for (size_t i = 1; i < kWindow; ++i) queue.Push("B", 5);
  CHECK_EQ(queue.Take(), "");
  queue.Push("c", 1);
  CHECK_EQ(queue.Take(), "a");
}

TEST(PaddingQueue, HigherPrioritiesComeFirstAndLowerOnesRideAlong) {
  QueueOptions levels;
  levels.priority_levels = 2;
  levels.default_priority_level = 2;
  Queue queue(Dynamic(4), levels);
  queue.Push("a", 1, 1, 2);
  queue.Push("B", 5, 1, 1);
  queue.Push("C", 5, 1, 2);
  queue.Push("d", 1, 1, 1);
  CHECK_EQ(queue.Take(), "B C");
  CHECK_EQ(queue.Take(), "d a");
}

TEST(PaddingQueue, CancelledOnesAreAnsweredWhereverTheyWereSeen) {
  Queue queue(Dynamic(3, 100));
  queue.Push("a", 1);
  const std::vector<SinkPtr> others = {queue.Push("B", 5), queue.Push("C", 5), queue.Push("D", 5)};
  others[1]->cancel = true;
  CHECK_EQ(queue.Take(), "");  // without C the others fill no batch
  CHECK(others[1]->code() == Code::kCancelled);
  CHECK_EQ(queue.source->size(), size_t{3});
}

}  // namespace
}  // namespace pyinfer
