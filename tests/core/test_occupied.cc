// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <memory>
#include <thread>

#include "check.h"
#include "engine/model.h"
#include "engine/occupied.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::IntModel;
using testing::IntRequest;
using testing::KeepingSink;
using testing::SinkPtr;

struct Watched {
  Watched() { model->SetOccupied(list); }

  SinkPtr Push() {
    SinkPtr sink = std::make_shared<KeepingSink>();
    model->Push(IntRequest(model->spec(), sink));
    return sink;
  }

  const std::shared_ptr<OccupiedModels> list = std::make_shared<OccupiedModels>();
  std::shared_ptr<Model> model = Model::Create(IntModel({8, true, {}, 1000}), std::make_shared<ManualClock>(1));
};

TEST(OccupiedModels, HasAModelAsLongAsThatHasRequests) {
  Watched watched;
  CHECK(watched.list->Find().empty());
  for (int turn = 0; turn < 3; ++turn) {
    const SinkPtr first = watched.Push();
    const SinkPtr second = watched.Push();
    for (int look = 0; look < 2; ++look) {
      const auto found = watched.list->Find();
      CHECK_EQ(found.size(), size_t{1});
      CHECK(found.front() == watched.model);
    }
    first->cancel = second->cancel = true;
    watched.model->Reap();
    CHECK_EQ(first->answers.load() + second->answers.load(), 2);
    CHECK(watched.list->Find().empty());
  }
}

TEST(OccupiedModels, ForgetsAModelThatIsGone) {
  Watched watched;
  const SinkPtr sink = watched.Push();
  watched.model->Stop();  // its requests keep it
  watched.model.reset();
  CHECK_EQ(sink->answers.load(), 1);
  CHECK(watched.list->Find().empty());
}

TEST(OccupiedModels, AModelThatIsPushedToIsNeverOutOfSight) {
  Watched watched;
  std::atomic<bool> done{false};
  std::thread looker([&] {
    while (!done.load()) watched.list->Find();
  });
  for (int turn = 0; turn < 20000; ++turn) {
    const SinkPtr sink = watched.Push();
    CHECK_EQ(watched.list->Find().size(), size_t{1});
    sink->cancel = true;
    watched.model->Reap();
    CHECK_EQ(sink->answers.load(), 1);
  }
  done.store(true);
  looker.join();
}

}  // namespace
}  // namespace pyinfer
