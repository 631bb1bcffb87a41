// SPDX-License-Identifier: Apache-2.0
// Batches that others have sent to a worker for the thread of its instance.
#include <atomic>
#include <memory>
#include <thread>
#include <utility>

#include "check.h"
#include "worker/futex.h"
#include "workers.h"

namespace pyinfer {
namespace {

using testing::EchoAll;
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
  CHECK(!host.Begin(std::move(first.batch)));
  host.Complete();
  for (int round = 0; round < 100; ++round) {
    CHECK(host.PrepareWatch());
    Requests requests(false, round % 8 + 1);
    std::atomic<bool> begun{false};
    std::thread beginning([&] {
      CHECK(host.Begin(std::move(requests.batch)));
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
  const auto begin_one = [&](bool heard) {
    Requests requests;
    CHECK_EQ(host.Begin(std::move(requests.batch)), heard);
    host.Complete();
    CheckEchoes(requests);
  };
  begin_one(false);
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
  begin_one(false);
  CHECK(host.PrepareWatch());
  begin_one(true);
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
