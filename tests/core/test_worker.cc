// SPDX-License-Identifier: Apache-2.0
// Both ends of the boundary in one process: the guest runs on a thread of its own and does what a test tells it to.
#include <unistd.h>

#include <chrono>
#include <functional>
#include <future>
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

using testing::EchoAll;
using testing::EchoedOutputs;
using testing::FakeWorker;
using testing::IntsOf;
using testing::KeepingSink;
using testing::Requests;
using testing::SinkPtr;

TEST(Worker, ExecutesBatches) {
  WorkerHost host(0);
  FakeWorker worker(EchoAll);
  worker.AttachTo(host);
  CHECK(host.WaitReady());
  for (int round = 0; round < 300; ++round) {
    Requests requests(false, round % 8 + 1);
    requests.ExecuteBy(host);
    for (size_t i = 0; i < requests.sinks.size(); ++i) {
      CHECK_EQ(requests.sinks[i]->answers.load(), 1);
      CHECK_EQ(IntsOf(requests.sinks[i]->response.outputs.at(0).data).at(3), static_cast<int32_t>(i));
    }
  }
  CHECK_EQ(host.executed(), uint64_t{300});
  host.Stop();
}

TEST(Worker, AnswersAreChecked) {
  WorkerHost host(0);
  FakeWorker worker([](Batch& batch) {
    std::vector<Tensor> wrong = EchoedOutputs(batch.request(0));
    wrong[0].name = "OTHER";
    batch.Respond(0, std::move(wrong), {});
    batch.Fail(1, Status::InvalidArg("not this one"));
    return true;
  });
  worker.AttachTo(host);
  Requests requests;
  requests.ExecuteBy(host);
  CHECK(requests.sinks[0]->message().find("unknown output 'OTHER'") != std::string::npos);
  CHECK(requests.sinks[1]->code() == Code::kInvalidArg);
  CHECK_EQ(requests.sinks[1]->message(), "not this one");
  CHECK(!worker.killed);
  host.Stop();
}

TEST(Worker, ResponsesComeApartFromTheirBatch) {
  WorkerHost host(0);
  std::promise<std::shared_ptr<Responder>> detached;
  FakeWorker worker([&](Batch& batch) {
    std::vector<Tensor> outputs = EchoedOutputs(batch.request(0));
    const std::shared_ptr<Responder> responder = batch.Detach(0);
    responder->Send(outputs, {}, false);
    detached.set_value(responder);
    batch.Respond(1, EchoedOutputs(batch.request(1)), {});
    return true;
  });
  worker.AttachTo(host);
  Requests requests(/*decoupled=*/true);
  requests.ExecuteBy(host);
  CHECK_EQ(requests.sinks[1]->answers.load(), 1);
  CHECK_EQ(requests.sinks[0]->answers.load(), 0);
  CHECK_EQ(requests.sinks[0]->partial.size(), size_t{1});
  const std::shared_ptr<Responder> late = detached.get_future().get();
  CHECK(!late->cancelled());
  requests.sinks[0]->cancel = true;
  while (!late->cancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  late->End();
  requests.WaitAnswered(0);
  CHECK(requests.sinks[0]->response.only_ends);
  host.Stop();
}

// Somebody who takes responses, and says when there is room for more.
struct LimitedSink final : KeepingSink {
  struct Wait final : RoomWait {
    explicit Wait(const LimitedSink& from) : sink(from) {}
    bool over() override { return sink.room || sink.cancelled(); }
    bool cancelled() const override { return sink.cancelled(); }
    const LimitedSink& sink;
  };

  void Send(const Request& request, Response given, bool final) noexcept override {
    KeepingSink::Send(request, std::move(given), final);
    if (!final) ++before_last;
  }
  bool limits_room() const override { return true; }
  std::unique_ptr<RoomWait> AskForRoom(const Producer&, std::shared_ptr<RoomListener> listener) const override {
    told = std::move(listener);
    ++asks;
    if (room) return nullptr;
    return std::make_unique<Wait>(*this);
  }
  void MakeRoom() {
    room = true;
    told->OnRoom();
  }
  void AwaitAsked() const {
    while (asks == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::atomic<size_t> before_last{0};  // as `partial` has them, for who looks while more may come
  std::atomic<bool> room{false};
  mutable std::atomic<int> asks{0};
  mutable std::shared_ptr<RoomListener> told;
};

// Threads of a worker that make responses apart. What passes between worker and host is shared memory, which orders
// nothing for a sanitizer: hence the lock.
class Senders {
 public:
  template <typename Work>
  void Start(Work work) {
    const std::lock_guard<std::mutex> lock(guard_);
    threads_.emplace_back(std::move(work));
  }
  void Join() {
    const std::lock_guard<std::mutex> lock(guard_);
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::mutex guard_;
  std::vector<std::thread> threads_;
};

// The thread in the worker that makes responses waits; the worker answers other requests meanwhile.
TEST(Worker, WhoMakesResponsesIsHeldUpByItself) {
  WorkerHost host(0);
  std::atomic<int> sent{0};
  Senders senders;
  FakeWorker worker([&](Batch& batch) {
    if (batch.size() == 1) return EchoAll(batch);
    for (size_t i = 0; i < batch.size(); ++i) {
      std::vector<Tensor> outputs = EchoedOutputs(batch.request(i));
      senders.Start([&, outputs = std::move(outputs), responder = batch.Detach(i)] {
        for (int n = 0; n < 2; ++n) {
          responder->Send(outputs, {}, false);
          responder->WaitForRoom();
          ++sent;
        }
        responder->End();
      });
    }
    return true;
  });
  worker.AttachTo(host);
  const auto limited = std::make_shared<LimitedSink>(), cancelled = std::make_shared<LimitedSink>();
  Requests requests(/*decoupled=*/true, 3, {limited, cancelled});
  requests.ExecuteBy(host);
  requests.WaitAnswered(2);  // for which there is always room
  limited->AwaitAsked();
  cancelled->AwaitAsked();
  Requests one(/*decoupled=*/false, 1);
  one.ExecuteBy(host);
  CHECK(one.sinks[0]->response.status.ok());
  CHECK_EQ(sent.load(), 2);
  CHECK(limited->before_last == 1 && cancelled->before_last == 1);
  limited->MakeRoom();
  requests.WaitAnswered(0);
  CHECK_EQ(limited->before_last.load(), size_t{2});
  cancelled->cancel = true;
  requests.WaitAnswered(1);
  senders.Join();
  CHECK_EQ(sent.load(), 6);
  host.Stop();
}

// Otherwise it would go on making responses until it happens to be told.
TEST(Worker, WhoGoesOnBecauseNobodyWaitsKnowsIt) {
  WorkerHost host(0);
  std::atomic<int> unaware{0};
  Senders senders;
  FakeWorker worker([&](Batch& batch) {
    std::vector<Tensor> outputs = EchoedOutputs(batch.request(0));
    senders.Start([&, outputs = std::move(outputs), responder = batch.Detach(0)] {
      responder->Send(outputs, {}, false);
      responder->WaitForRoom();
      if (!responder->cancelled()) ++unaware;
      responder->End();
    });
    return true;
  });
  worker.AttachTo(host);
  for (int round = 0; round < 20; ++round) {
    const auto sink = std::make_shared<LimitedSink>();
    Requests requests(/*decoupled=*/true, 1, {sink});
    requests.ExecuteBy(host);
    sink->AwaitAsked();
    sink->cancel = true;
    sink->told->OnRoom();
    requests.WaitAnswered(0);
  }
  senders.Join();
  CHECK_EQ(unaware.load(), 0);
  host.Stop();
}

TEST(Worker, ADeathFailsWhatWasBeingExecutedAndNothingElse) {
  WorkerHost host(0);
  std::shared_ptr<Responder> late;
  std::atomic<bool> begun{false};
  FakeWorker first([&](Batch& batch) {
    if (!late) {
      late = batch.Detach(0);
      return true;
    }
    begun = true;
    return false;
  });
  first.AttachTo(host);
  Requests apart(/*decoupled=*/true, 1);
  apart.ExecuteBy(host);
  Requests lost;
  std::thread reaper([&] {
    while (!begun) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    host.End(first.session, Status::Internal("it died"));
  });
  lost.ExecuteBy(host);
  reaper.join();
  CHECK_EQ(lost.sinks[0]->message(), "it died");
  CHECK_EQ(apart.sinks[0]->message(), "it died");
  // the next worker takes what comes; so it does with a batch that waits for one
  Requests waiting;
  std::thread executor([&] { waiting.ExecuteBy(host); });
  FakeWorker second(EchoAll);
  second.AttachTo(host);
  executor.join();
  CHECK(waiting.sinks[0]->response.status.ok());
  host.Stop();
  late.reset();
}

TEST(Worker, ABatchThatIsNotBegunWaitsForTheNextWorker) {
  WorkerHost host(0);
  // one that never looks at what it is sent
  const auto session = host.Announce(WorkerLanes::Create().value(), [] {});
  host.Attach(session);
  Requests requests;
  std::thread executor([&] { requests.ExecuteBy(host); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  host.End(session, Status::Internal("it died"));
  FakeWorker worker(EchoAll);
  worker.AttachTo(host);
  executor.join();
  CHECK(requests.sinks[0]->response.status.ok() && requests.sinks[1]->response.status.ok());
  host.Stop();
}

TEST(Worker, OneIsReplacedWhileItIsBusy) {
  WorkerHost host(0);
  std::shared_ptr<Responder> late;
  std::atomic<bool> begun{false};
  std::atomic<bool> go_on{false};
  FakeWorker first([&](Batch& batch) {
    if (!late) {
      late = batch.Detach(0);
      return true;
    }
    begun = true;
    while (!go_on) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return EchoAll(batch);
  });
  first.AttachTo(host);
  Requests apart(/*decoupled=*/true, 1);
  apart.ExecuteBy(host);
  Requests under_way;
  std::thread executor([&] { under_way.ExecuteBy(host); });
  while (!begun) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK(!first.session->StopIdle());
  FakeWorker second(EchoAll);
  second.AttachTo(host);
  go_on = true;
  executor.join();
  CHECK(under_way.sinks[0]->response.status.ok() && under_way.sinks[1]->response.status.ok());
  CHECK(!first.session->StopIdle());  // it has a request to answer apart
  Requests next;
  next.ExecuteBy(host);
  CHECK(next.sinks[0]->response.status.ok());
  CHECK_EQ(host.executed(), uint64_t{3});
  late->Send({}, {}, /*final=*/true);
  late.reset();
  apart.WaitAnswered(0);
  CHECK(apart.sinks[0]->response.status.ok());
  while (!first.session->StopIdle()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  // what it is still handed, it does not begin
  Requests too_late;
  CHECK(first.session->Execute(too_late.batch, 0, {}) == WorkerSession::Outcome::kNotBegun);
  too_late.ExecuteBy(host);
  CHECK(too_late.sinks[0]->response.status.ok());
  host.End(first.session, Status::Internal("it is not needed"));
  Requests last;
  last.ExecuteBy(host);
  CHECK(last.sinks[0]->response.status.ok());
  host.Stop();
}

TEST(Worker, ABatchThatTakesTooLongIsFailedAndItsWorkerKilled) {
  WorkerHost host(30'000'000);
  FakeWorker worker([](Batch&) { return false; });
  worker.AttachTo(host);
  Requests requests;
  requests.ExecuteBy(host);
  CHECK(worker.killed);
  CHECK(requests.sinks[0]->code() == Code::kDeadlineExceeded);
  CHECK_EQ(requests.sinks[0]->message(), "the model 'm' did not execute the request within 30 ms");
  host.End(worker.session, Status::Internal("killed"));
}

TEST(Worker, NoMoreWorkersFailWhatWaits) {
  WorkerHost host(0);
  Requests requests;
  std::thread executor([&] { requests.ExecuteBy(host); });
  host.Close(Status::Unavailable("given up"));
  executor.join();
  CHECK(requests.sinks[0]->code() == Code::kUnavailable);
  CHECK_EQ(requests.sinks[0]->message(), "given up");
  CHECK(!host.WaitReady());
}

TEST(Worker, NonsenseIsNotBelieved) {
  WorkerHost host(0);
  const WorkerLanes lanes = WorkerLanes::Create().value();
  std::atomic<bool> killed{false};
  const auto session = host.Announce(lanes, [&] { killed = true; });
  host.Attach(session);
  LaneReader reader(lanes.requests);
  LaneWriter writer(lanes.answers);
  std::thread liar([&] {
    for (int taken = 0; taken < 2;) {  // the model, the batch
      if (reader.TryTake().value()) {
        ++taken;
      } else {
        reader.Wait(1'000'000'000);
      }
    }
    MessageWriter message(MessageKind::kAnswers);
    WorkerAnswers lie;
    lie.answers.push_back({12345, false, true, {}});
    WriteAnswers(message, lie);
    uint8_t* const at = writer.Allocate(message.size()).value();
    message.Write(at);
    CHECK(writer.TrySend(at, message.size()));
  });
  Requests sent;
  sent.ExecuteBy(host);
  liar.join();
  CHECK(killed);
  CHECK(sent.sinks[0]->code() == Code::kInternal);
  CHECK(sent.sinks[0]->message().find("what can not be true: an answer to no request") != std::string::npos);
  host.End(session, Status::Internal("killed"));
}

}  // namespace
}  // namespace pyinfer
