// SPDX-License-Identifier: Apache-2.0
// Large inputs that a worker, which runs on a thread here, reads from where they were received.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "scheduling.h"
#include "worker/guest.h"
#include "worker/host.h"
#include "worker/session.h"
#include "workers.h"

namespace pyinfer {
namespace {

using testing::IntsOf;
using testing::KeepingSink;

constexpr int32_t kWidth = 300'000;
constexpr size_t kBytes = kWidth * sizeof(int32_t);

uint64_t SizeOf(const LaneMemoryPtr& lane) {
  struct stat found{};
  CHECK(fstat(lane->fd(), &found) == 0);
  return static_cast<uint64_t>(found.st_size);
}

Slice PlacedInts(PlacedInputs& inputs, int32_t value) {
  const BufferPtr buffer = inputs.Allocate(kBytes);
  auto* const values = reinterpret_cast<int32_t*>(buffer->data());
  std::fill_n(values, kWidth, value);
  return Slice(buffer, 0, kBytes);
}

// Requests of one input each, which is there already.
struct Sent {
  explicit Sent(const std::vector<Slice>& data) {
    const auto model = testing::Shared(testing::IntModel({8, true, {}, 0}));
    std::vector<RequestPtr> requests;
    for (const Slice& input : data) {
      sinks.push_back(std::make_shared<KeepingSink>());
      requests.push_back(testing::IntRequest(model, sinks.back(), 1, kWidth));
      requests.back()->inputs[0].data = input;
    }
    batch = Batch(std::move(requests), model, nullptr, clock, clock.Now());
  }

  void ExecuteBy(WorkerHost& host) {
    host.Execute(batch);
    batch.Finish();
  }

  const SystemClock clock;
  std::vector<testing::SinkPtr> sinks;
  Batch batch;
};

// A worker that takes a batch, and the model before it, and says nothing.
void TakeBatch(const WorkerLanes& lanes) {
  LaneReader reader(lanes.requests);
  for (int taken = 0; taken < 2;) {
    if (reader.TryTake().value()) {
      ++taken;
    } else {
      reader.Wait(1'000'000'000);
    }
  }
}

// What the code of a worker keeps. Server and worker know each other's addresses of the shared memory only, which shows
// no sanitizer what happens before what: hence the lock.
class Kept {
 public:
  void Add(const Batch& batch, size_t most) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (tensors_.size() < most) tensors_.push_back(batch.request(0).inputs.at(0));
  }
  Tensor at(size_t index) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return tensors_.at(index);
  }
  void Clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    tensors_.clear();
  }

 private:
  std::mutex mutex_;
  std::vector<Tensor> tensors_;
};

// A server and a worker that does with each batch what it is told to.
struct Pair {
  explicit Pair(std::function<void(Batch&)> execute = testing::EchoAll) {
    guest = Guest::Make(dup(lanes.requests->fd()), dup(lanes.answers->fd()), dup(inputs->fd())).value();
    worker = std::thread([this, run = std::move(execute)] {
      for (;;) {
        StatusOr<Batch> batch = guest->Next();
        if (!batch.ok() || batch->empty()) return;
        run(batch.value());
        guest->Finish(batch.value());
      }
    });
    session = host.Announce(lanes, [this] { killed = true; });
    host.Attach(session);
  }
  ~Pair() {
    host.Stop();
    worker.join();
    host.End(session, Status::Internal("ended"));
  }

  std::vector<testing::SinkPtr> Execute(const std::vector<Slice>& data) {
    Sent sent(data);
    sent.ExecuteBy(host);
    return sent.sinks;
  }

  const std::shared_ptr<PlacedInputs> inputs = PlacedInputs::Create().value();
  const WorkerLanes lanes = WorkerLanes::Create().value();
  WorkerHost host{0, nullptr, inputs};
  std::atomic<bool> killed{false};
  std::shared_ptr<Guest> guest;
  std::shared_ptr<WorkerSession> session;
  std::thread worker;
};

// What is told of elsewhere belongs to its writer until it is handed to a reader, and to that one once.
TEST(Lane, AMessageIsHandedToOneReader) {
  const LaneMemoryPtr memory = LaneMemory::Create().value();
  LaneWriter writer(memory);
  uint8_t* const message = writer.Allocate(100).value();
  writer.TakeBack(message);
  BufferPtr lent = writer.Lend(message);
  CHECK(!writer.HandTo(message + kLaneAlignment, 1));
  CHECK(writer.HandTo(message, 1));
  CHECK(!writer.HandTo(message, 2));
  writer.TakeBack(message);
  CHECK(writer.HandTo(message, 2));
  const auto offset = static_cast<uint64_t>(message - memory->base());
  Slice taken = TakeBlock(memory, offset, 100).value();
  CHECK(taken.data() == message);
  lent = nullptr;
  CHECK(writer.Allocate(100).value() != message);
  taken = Slice();
  CHECK(writer.Allocate(100).value() == message);
  CHECK(!TakeBlock(memory, offset + 1, 10).ok());
  CHECK(!TakeBlock(memory, 0, 10).ok());
  CHECK(!TakeBlock(memory, offset, uint64_t{1} << 30).ok());
  CHECK(!TakeBlock(memory, uint64_t{1} << 62, 10).ok());
}

TEST(Lane, WhatAReaderHadIsFreeWhenItIsGone) {
  const LaneMemoryPtr memory = LaneMemory::Create().value();
  LaneWriter writer(memory);
  uint8_t* const first = writer.Allocate(100).value();
  uint8_t* const second = writer.Allocate(100).value();
  CHECK(writer.HandTo(first, 1) && writer.HandTo(second, 2));
  writer.ForgetReader(2);
  CHECK(writer.Allocate(100).value() == second);
  writer.ForgetReader(2);  // which has nothing to do with what is there now
  CHECK(writer.Allocate(100).value() != second);
  writer.ForgetReader(1);
  CHECK(writer.Allocate(100).value() == first);
}

TEST(Lane, GrowsToItsLimit) {
  LaneWriter writer(LaneMemory::Create().value(), 10 << 20);
  const uint8_t* const first = writer.Allocate(6 << 20).value();
  CHECK(writer.Allocate(6 << 20).status().code() == Code::kUnavailable);
  CHECK(writer.Allocate(1 << 20).ok());
  CHECK(first != nullptr);
}

// Nothing is copied, there or back, and what an answer has stays as it is while that is on its way.
TEST(WorkerPlaced, InputsAreReadAndAnsweredFromWhereTheyAre) {
  Pair pair;
  std::vector<std::pair<int32_t, Slice>> held;
  for (int32_t round = 0; round < 6; ++round) {
    const std::vector<Slice> data = {PlacedInts(*pair.inputs, 2 * round), PlacedInts(*pair.inputs, 2 * round + 1)};
    const auto sinks = pair.Execute(data);
    for (size_t i = 0; i < 2; ++i) {
      const Slice& output = sinks[i]->response.outputs.at(0).data;
      CHECK(output.foreign() && output.data() == data[i].data() && output.size() == kBytes);
      held.emplace_back(2 * round + static_cast<int32_t>(i), output);
    }
    if (round % 3 == 2) held.erase(held.begin() + 1, held.begin() + 4);
    for (const auto& [value, output] : held) CHECK(IntsOf(output) == std::vector<int32_t>(kWidth, value));
  }
  CHECK(SizeOf(pair.lanes.requests) < kBytes);
  CHECK(SizeOf(pair.lanes.answers) < kBytes);
  CHECK(!pair.killed);
}

// Those of other memory, and parts of an input, come along as ever.
TEST(WorkerPlaced, OthersAreCopied) {
  Pair pair;
  const auto other = PlacedInputs::Create().value();
  const Slice placed = PlacedInts(*pair.inputs, 1);
  for (const Slice& data : {testing::Ints(std::vector<int32_t>(kWidth, 2)), PlacedInts(*other, 3)}) {
    const auto sinks = pair.Execute({data, placed});
    CHECK(IntsOf(sinks[0]->response.outputs.at(0).data) == IntsOf(data));
    CHECK(IntsOf(sinks[1]->response.outputs.at(0).data) == std::vector<int32_t>(kWidth, 1));
  }
  const BufferPtr larger = pair.inputs->Allocate(2 * kBytes);
  std::fill_n(reinterpret_cast<int32_t*>(larger->data()), 2 * kWidth, 4);
  const auto sinks = pair.Execute({Slice(larger, kBytes, kBytes)});
  CHECK(IntsOf(sinks[0]->response.outputs.at(0).data) == std::vector<int32_t>(kWidth, 4));
}

// A model that keeps an input finds it as it was, be its request long answered; then its memory is used again.
TEST(WorkerPlaced, WhatTheWorkerKeepsIsNotWrittenOver) {
  Kept kept;
  Pair pair([&kept](Batch& batch) {
    kept.Add(batch, 2);
    testing::EchoAll(batch);
  });
  const uint8_t* first = nullptr;
  for (int32_t round = 0; round < 8; ++round) {
    const Slice placed = PlacedInts(*pair.inputs, round);
    if (round == 0) first = placed.data();
    CHECK_EQ(placed.data() == first, round == 0);
    const auto sinks = pair.Execute({placed});
    CHECK(IntsOf(sinks[0]->response.outputs.at(0).data) == std::vector<int32_t>(kWidth, round));
  }
  for (int32_t round = 0; round < 2; ++round) {
    CHECK(IntsOf(kept.at(static_cast<size_t>(round)).data) == std::vector<int32_t>(kWidth, round));
  }
  kept.Clear();
  std::vector<BufferPtr> all;
  bool again = false;
  for (int i = 0; i < 6; ++i) again = again || all.emplace_back(pair.inputs->Allocate(kBytes))->data() == first;
  CHECK(again);
}

// An output that is no input of its batch is copied, be it one of a batch before.
TEST(WorkerPlaced, AnInputOfBeforeIsNoPlaceOfNow) {
  Kept kept;
  Pair pair([&kept](Batch& batch) {
    kept.Add(batch, 1);
    Tensor output = kept.at(0);
    output.name = "OUT";
    batch.Respond(0, {std::move(output)}, {});
  });
  const Slice first = PlacedInts(*pair.inputs, 1);
  for (int round = 0; round < 3; ++round) {
    const auto sinks = pair.Execute({round == 0 ? first : PlacedInts(*pair.inputs, 2)});
    const Slice& output = sinks[0]->response.outputs.at(0).data;
    CHECK(IntsOf(output) == std::vector<int32_t>(kWidth, 1));
    CHECK_EQ(output.data() == first.data(), round == 0);
  }
  kept.Clear();
  CHECK(!pair.killed);
}

// What a worker had is free once it is gone, and goes to the next one.
TEST(WorkerPlaced, AWorkerThatIsGoneHasNothing) {
  const auto inputs = PlacedInputs::Create().value();
  WorkerHost host(0, nullptr, inputs);
  const uint8_t* at = nullptr;
  for (int round = 0; round < 3; ++round) {
    const WorkerLanes lanes = WorkerLanes::Create().value();
    const auto session = host.Announce(lanes, [] {});
    host.Attach(session);
    std::thread dies([&] {  // with the batch
      TakeBatch(lanes);
      host.End(session, Status::Internal("it died"));
    });
    const Slice placed = PlacedInts(*inputs, round);
    CHECK(at == nullptr || at == placed.data());
    at = placed.data();
    Sent sent({placed});
    sent.ExecuteBy(host);
    dies.join();
    CHECK_EQ(sent.sinks[0]->message(), "it died");
  }
}

// A worker may tell of places in the inputs of its batch, and of nothing else.
TEST(WorkerPlaced, PlacesAreNotBelieved) {
  const auto inputs = PlacedInputs::Create().value();
  const Slice others = PlacedInts(*inputs, 13);
  const Slice own = PlacedInts(*inputs, 7);
  const auto offset = [&](const Slice& bytes) { return *inputs->OffsetOf(bytes.view()); };
  const std::vector<std::pair<Place, bool>> places = {
      {{true, offset(own)}, true},         {{true, offset(own) + 4}, false},  // its end lies outside
      {{true, offset(own) - 4}, false},    {{true, offset(others)}, false},
      {{true, uint64_t{1} << 40}, false},  {{true, 0}, false},
      {{false, uint64_t{1} << 40}, false},
  };
  for (const auto& [place, believed] : places) {
    WorkerHost host(0, nullptr, inputs);
    const WorkerLanes lanes = WorkerLanes::Create().value();
    std::atomic<bool> killed{false};
    const auto session = host.Announce(lanes, [&] { killed = true; });
    host.Attach(session);
    std::thread tells([&, place = place] {
      TakeBatch(lanes);
      LaneWriter writer(lanes.answers);
      const std::vector<int32_t> any(kWidth);
      WorkerAnswers answers;
      Response response;
      response.outputs.push_back({"OUT", DType::kInt32, {1, kWidth}, testing::Ints(any)});
      MessageWriter message(MessageKind::kAnswers);
      message.Borrow(response.outputs[0].data.view(), place);
      answers.done = true;
      answers.answers.push_back({1, false, true, response});
      WriteAnswers(message, answers);
      uint8_t* const at = writer.Allocate(message.size()).value();
      message.Write(at);
      CHECK(writer.TrySend(at, message.size()));
    });
    Sent sent({own});
    sent.ExecuteBy(host);
    tells.join();
    CHECK_EQ(killed.load(), !believed);
    CHECK_EQ(sent.sinks[0]->code() == Code::kOk, believed);
    if (believed) CHECK(IntsOf(sent.sinks[0]->response.outputs.at(0).data) == std::vector<int32_t>(kWidth, 7));
    host.End(session, Status::Internal("killed"));
  }
}

}  // namespace
}  // namespace pyinfer
