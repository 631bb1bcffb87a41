// SPDX-License-Identifier: Apache-2.0
// Batches that others have sent to a worker for the thread of its instance.
#include <poll.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "base/doorbell.h"
#include "check.h"
#include "engine/engine.h"
#include "worker/futex.h"
#include "workers.h"

namespace pyinfer {
namespace {

using testing::EchoAll;
using testing::EchoedOutputs;
using testing::FakeWorker;
using testing::IntsOf;
using testing::Requests;

void CheckEchoes(const Requests& requests) {
  for (size_t i = 0; i < requests.sinks.size(); ++i) {
    CHECK_EQ(requests.sinks[i]->answers.load(), 1);
    CHECK_EQ(IntsOf(requests.sinks[i]->response.outputs.at(0).data).at(3), static_cast<int32_t>(i));
  }
}

TEST(WorkerBegin, TheInstanceCompletesWhatOthersHaveSent) {
  WorkerHost host(0);
  std::atomic<int> executed{0};
  FakeWorker worker([&](Batch& batch) {
    ++executed;
    return EchoAll(batch);
  });
  worker.AttachTo(host);
  for (int round = 0; round < 300; ++round) {
    Requests requests(false, round % 8 + 1);
    host.Begin(std::move(requests.batch));
    // Now and then the answer is there before anybody waits for it.
    while (round % 3 == 0 && executed.load() == round) std::this_thread::yield();
    host.Complete();
    CheckEchoes(requests);
  }
  CHECK_EQ(host.executed(), uint64_t{300});
  host.Stop();
}

// Sent before it watches, and while it does.
TEST(WorkerBegin, WhoWatchesHearsTheAnswer) {
  if (!CanFutexWaitEither()) return;
  WorkerHost host(0);
  FakeWorker worker(EchoAll);
  worker.AttachTo(host);
  Requests first;
  CHECK(!host.PrepareWatch());
  CHECK(host.Begin(std::move(first.batch)) == HeardBy::kNobody);
  host.Complete();
  for (int round = 0; round < 100; ++round) {
    CHECK(host.PrepareWatch());
    Requests requests(false, round % 8 + 1);
    std::atomic<bool> begun{false};
    std::thread beginning([&] {
      CHECK(host.Begin(std::move(requests.batch)) == HeardBy::kWatcher);
      begun = true;
    });
    if (round % 2 == 0) beginning.join();
    do host.Watch();
    while (!begun);
    if (beginning.joinable()) beginning.join();
    host.Complete();
    CheckEchoes(requests);
  }
  Requests executed;
  host.Execute(executed.batch);
  CHECK(!host.PrepareWatch());  // it comes from the queue, and goes back there
  host.Stop();
}

TEST(WorkerBegin, WhoWatchesIsWokenForAllElse) {
  if (!CanFutexWaitEither()) return;
  WorkerHost host(0);
  FakeWorker first(EchoAll), second(EchoAll);
  first.AttachTo(host);
  const auto begin_one = [&](HeardBy heard) {
    Requests requests;
    CHECK(host.Begin(std::move(requests.batch)) == heard);
    host.Complete();
    CheckEchoes(requests);
  };
  begin_one(HeardBy::kNobody);
  CHECK(host.PrepareWatch());
  host.Wake();
  host.Watch();  // Wake counts from PrepareWatch on
  CHECK(host.PrepareWatch());
  std::thread waking([&] { host.Wake(); });
  host.Watch();
  waking.join();
  // The answer of another worker is not heard by who watches this one.
  CHECK(host.PrepareWatch());
  CHECK(first.session->StopIdle());
  second.AttachTo(host);
  begin_one(HeardBy::kNobody);
  CHECK(host.PrepareWatch());
  begin_one(HeardBy::kWatcher);
  CHECK(second.session->StopIdle());
  CHECK(!host.PrepareWatch());
  host.Stop();
}

// With it would stay what it shares with the server: memory and descriptors.
TEST(WorkerBegin, AWorkerThatIsGoneIsNotKeptToBeWatched) {
  WorkerHost host(0);
  std::weak_ptr<WorkerSession> gone;
  {
    FakeWorker worker(EchoAll);
    worker.AttachTo(host);
    Requests requests;
    host.Begin(std::move(requests.batch));
    host.Complete();
    CheckEchoes(requests);
    gone = worker.session;
    CHECK(worker.session->StopIdle());
    host.End(worker.session, Status::Internal("it ended"));
  }
  CHECK(gone.expired());
  CHECK(!host.PrepareWatch());
}

TEST(WorkerBegin, WithoutAWorkerNothingIsSent) {
  WorkerHost host(0);
  Requests requests;
  host.Begin(std::move(requests.batch));
  FakeWorker worker(EchoAll);
  std::thread attaching([&] { worker.AttachTo(host); });
  host.Complete();
  attaching.join();
  CheckEchoes(requests);
  host.Stop();
}

TEST(WorkerBegin, WhatIsLargeIsSentByTheInstance) {
  WorkerHost host(0);
  FakeWorker first(EchoAll), second(EchoAll);
  first.AttachTo(host);
  Requests small, large(false, 1, {}, /*width=*/1 << 17);
  host.Begin(std::move(small.batch));
  CHECK(!first.session->StopIdle());  // it has something to do
  host.Complete();
  CheckEchoes(small);
  host.Begin(std::move(large.batch));
  CHECK(first.session->StopIdle());
  second.AttachTo(host);
  host.Complete();
  CheckEchoes(large);
  host.Stop();
}

// --- what is heard by the doorbell ---

using Progress = BatchStarter::Progress;

// An engine with an event loop that hears its doorbell.
struct Heard {
  Heard() { engine->doorbell()->Attend(); }

  // Waits until it has rung, and lowers it.
  void Await() const {
    pollfd bell{engine->doorbell()->fd(), POLLIN, 0};
    CHECK_EQ(poll(&bell, 1, 10'000), 1);
    engine->doorbell()->Lower();
  }
  bool has_rung() const {
    pollfd bell{engine->doorbell()->fd(), POLLIN, 0};
    return poll(&bell, 1, 0) == 1;
  }

  const std::shared_ptr<Engine> engine = std::make_shared<Engine>(std::make_shared<SystemClock>());
};

TEST(WorkerBegin, WhoHearsTheDoorbellCompletes) {
  const Heard heard;
  WorkerHost host(0, heard.engine);
  FakeWorker worker(EchoAll, heard.engine->doorbell().get());
  worker.AttachTo(host);
  for (int round = 0; round < 300; ++round) {
    Requests requests(false, round % 8 + 1);
    CHECK(host.Begin(std::move(requests.batch)) == HeardBy::kDoorbell);
    heard.Await();
    CHECK(host.TryComplete() == Progress::kCompleted);
    CheckEchoes(requests);
  }
  CHECK(!heard.has_rung());  // once for each
  CHECK_EQ(host.executed(), uint64_t{300});
  // Or whoever has the instance otherwise.
  Requests requests;
  CHECK(host.Begin(std::move(requests.batch)) == HeardBy::kDoorbell);
  host.Complete();
  CheckEchoes(requests);
  host.Stop();
}

TEST(WorkerBegin, ADoorbellMayRingForAnotherOne) {
  const Heard heard;
  WorkerHost host(0, heard.engine);
  std::atomic<bool> goes_on{false};
  FakeWorker worker(
      [&](Batch& batch) {
        while (!goes_on) std::this_thread::yield();
        return EchoAll(batch);
      },
      heard.engine->doorbell().get());
  worker.AttachTo(host);
  Requests requests;
  CHECK(host.Begin(std::move(requests.batch)) == HeardBy::kDoorbell);
  CHECK(host.TryComplete() == Progress::kNone);
  goes_on = true;
  heard.Await();
  CHECK(host.TryComplete() == Progress::kCompleted);
  CheckEchoes(requests);
  host.Stop();
}

TEST(WorkerBegin, NobodyRingsForWhatIsNotForAnEventLoop) {
  const Heard heard;
  const Doorbell* const doorbell = heard.engine->doorbell().get();
  WorkerHost host(0, heard.engine);
  FakeWorker worker(EchoAll, doorbell);
  worker.AttachTo(host);
  const auto complete_one = [&](Requests requests) {
    CHECK(host.Begin(std::move(requests.batch)) != HeardBy::kDoorbell);
    host.Complete();
    for (const auto& sink : requests.sinks) CHECK_EQ(sink->answers.load(), 1);
    CHECK(!heard.has_rung());
  };
  complete_one(Requests(/*decoupled=*/true));
  complete_one(Requests(false, 1, {}, /*width=*/1 << 17));
  complete_one(Requests(false, 2, {}, 4, [](Request& request) { request.slow_to_answer = true; }));
  complete_one(Requests(false, 2, {}, 4, [](Request& request) { request.uses_shared_memory = true; }));
  for (const int64_t width : {(16 << 10) / 4, (16 << 10) / 4 + 1}) {
    Requests requests(false, 1, {}, width);
    CHECK_EQ(host.Begin(std::move(requests.batch)) == HeardBy::kDoorbell, width == (16 << 10) / 4);
    host.Complete();
    heard.engine->doorbell()->Lower();
  }
  Requests executed;
  executed.ExecuteBy(host);
  CHECK(!heard.has_rung());
  heard.engine->doorbell()->Leave();
  complete_one(Requests());
  host.Stop();
}

TEST(WorkerBegin, ALargeAnswerIsLeftToTheInstance) {
  const Heard heard;
  WorkerHost host(0, heard.engine);
  FakeWorker worker(
      [&](Batch& batch) {
        Tensor large = EchoedOutputs(batch.request(0)).at(0);
        large.shape = {1, 1 << 17};
        const std::string bytes(size_t{4} << 17, 'x');
        large.data = Slice::Copy(bytes.data(), bytes.size());
        batch.Respond(0, {large}, {});
        return true;
      },
      heard.engine->doorbell().get());
  worker.AttachTo(host);
  Requests requests(false, 1);
  CHECK(host.Begin(std::move(requests.batch)) == HeardBy::kDoorbell);
  heard.Await();
  CHECK(host.TryComplete() == Progress::kLeft);
  CHECK_EQ(requests.sinks[0]->answers.load(), 0);
  host.Complete();
  CHECK_EQ(requests.sinks[0]->response.outputs.at(0).data.size(), size_t{4} << 17);
  host.Stop();
}

// Its thread has nothing to do but to look now and then, until there is no doorbell any more.
TEST(WorkerBegin, TheInstanceWatchesWhileOthersHearTheDoorbell) {
  const Heard heard;
  WorkerHost host(0, heard.engine);
  FakeWorker worker(EchoAll, heard.engine->doorbell().get());
  worker.AttachTo(host);
  const auto complete_one = [&] {
    Requests requests;
    CHECK(host.Begin(std::move(requests.batch)) == HeardBy::kDoorbell);
    heard.Await();
    CHECK(host.TryComplete() == Progress::kCompleted);
    CheckEchoes(requests);
  };
  complete_one();
  CHECK(host.PrepareWatch());
  CHECK(!host.Watch());
  CHECK(host.PrepareWatch());
  std::thread others(complete_one);
  others.join();
  CHECK(host.Watch());
  CHECK(host.PrepareWatch());
  heard.engine->doorbell()->Leave();
  Requests requests;
  CHECK(host.Begin(std::move(requests.batch)) == HeardBy::kNobody);  // it does not look at the lane
  host.Complete();
  CheckEchoes(requests);
  host.Stop();
}

TEST(WorkerBegin, AWorkerThatDiesIsLeftToTheInstance) {
  const Heard heard;
  WorkerHost host(0, heard.engine);
  std::atomic<bool> begun{false};
  FakeWorker worker(
      [&](Batch&) {
        begun = true;
        return false;
      },
      heard.engine->doorbell().get());
  worker.AttachTo(host);
  Requests requests;
  CHECK(host.Begin(std::move(requests.batch)) == HeardBy::kDoorbell);
  while (!begun) std::this_thread::yield();
  CHECK(host.PrepareWatch());
  CHECK(host.KeepWatching());
  // Whichever worker is gone, who watches is woken to look.
  const auto other = host.Announce(WorkerLanes::Create().value(), [] {});
  host.End(other, Status::Internal("it died"));
  CHECK(!host.KeepWatching());
  host.End(worker.session, Status::Internal("it died"));
  CHECK(host.TryComplete() == Progress::kLeft);
  host.Complete();
  CHECK_EQ(requests.sinks[0]->message(), "it died");
}

// The limit counts from when the batch was begun, whoever waits for it.
TEST(WorkerBegin, TheLimitCountsFromTheBeginning) {
  const Heard heard;
  constexpr TimeNs kLimit = 1'000'000'000;
  WorkerHost host(kLimit, heard.engine);
  FakeWorker worker([](Batch&) { return false; }, heard.engine->doorbell().get());
  worker.AttachTo(host);
  Requests requests;
  host.Begin(std::move(requests.batch));
  const SystemClock clock;
  const TimeNs over = clock.Now() + kLimit;
  while (clock.Now() < over) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  host.Complete();
  CHECK(clock.Now() < over + kLimit);  // it did not begin to count here
  CHECK_EQ(requests.sinks[0]->message(), "the model 'm' did not execute the request within 1000 ms");
  CHECK(worker.killed);
}

TEST(WorkerBegin, AWorkerThatDiesMeanwhileFailsIt) {
  WorkerHost host(0);
  std::atomic<bool> begun{false};
  FakeWorker worker([&](Batch&) {
    begun = true;
    return false;
  });
  worker.AttachTo(host);
  Requests requests;
  host.Begin(std::move(requests.batch));
  while (!begun) std::this_thread::yield();
  host.End(worker.session, Status::Internal("it died"));
  host.Complete();
  CHECK_EQ(requests.sinks[0]->message(), "it died");
  CHECK_EQ(requests.sinks[1]->message(), "it died");
}

TEST(WorkerBegin, WhatADeadWorkerHasNotTakenGoesToTheNextOne) {
  WorkerHost host(0);
  const WorkerLanes lanes = WorkerLanes::Create().value();
  const auto dead = host.Announce(lanes, [] {});
  host.Attach(dead);
  Requests requests;
  host.Begin(std::move(requests.batch));
  host.End(dead, Status::Internal("it died"));
  FakeWorker worker(EchoAll);
  worker.AttachTo(host);
  host.Complete();
  CheckEchoes(requests);
  CHECK_EQ(host.executed(), uint64_t{1});
  host.Stop();
}

}  // namespace
}  // namespace pyinfer
