// SPDX-License-Identifier: Apache-2.0
// Batches that others have sent to a worker for the thread of its instance.
#include <atomic>
#include <memory>
#include <thread>
#include <utility>

#include "check.h"
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
