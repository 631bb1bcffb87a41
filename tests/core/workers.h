// SPDX-License-Identifier: Apache-2.0
// workers.h - a worker on a thread of the test, and batches for it.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "scheduling.h"
#include "worker/guest.h"
#include "worker/host.h"
#include "worker/session.h"

namespace pyinfer::testing {

// A worker; what it executes is up to `execute`, which may say that the worker dies: it then says nothing any more.
class FakeWorker {
 public:
  explicit FakeWorker(std::function<bool(Batch&)> execute, const Doorbell* doorbell = nullptr) {
    const int ringing = doorbell ? dup(doorbell->ringing_fd()) : -1;
    guest_ = Guest::Make(dup(lanes_.requests->fd()), dup(lanes_.answers->fd()), -1, ringing).value();
    thread_ = std::thread([this, run = std::move(execute)] {
      for (;;) {
        StatusOr<Batch> batch = guest_->Next();
        if (!batch.ok() || batch->empty()) return;
        if (!run(batch.value())) {
          lost_ = std::move(batch).value();
          return;
        }
        guest_->Finish(batch.value());
      }
    });
  }
  ~FakeWorker() { thread_.join(); }

  void AttachTo(WorkerHost& host) {
    session = host.Announce(lanes_, [this] { killed = true; });
    host.Attach(session);
  }

  std::atomic<bool> killed{false};
  std::shared_ptr<WorkerSession> session;

 private:
  const WorkerLanes lanes_ = WorkerLanes::Create().value();
  std::shared_ptr<Guest> guest_;
  Batch lost_;  // its answers go nowhere
  std::thread thread_;
};

struct Requests {
  explicit Requests(bool decoupled = false, int32_t count = 2, std::vector<SinkPtr> given = {}, int64_t width = 4,
                    const std::function<void(Request&)>& change = nullptr)
      : sinks(std::move(given)) {
    ModelSpec spec = IntModel({8, true, {}, 0});
    spec.decoupled = decoupled;
    const auto model = Shared(std::move(spec));
    std::vector<RequestPtr> made;
    for (int32_t i = 0; i < count; ++i) {
      const auto index = static_cast<size_t>(i);
      if (index >= sinks.size()) sinks.push_back(std::make_shared<KeepingSink>());
      made.push_back(IntRequest(model, sinks[index], 1, width, i));
      if (change) change(*made.back());
    }
    batch = Batch(std::move(made), model, nullptr, clock, clock.Now());
  }

  void ExecuteBy(WorkerHost& host) {
    host.Execute(batch);
    batch.Finish();
  }
  void WaitAnswered(size_t index) {
    while (sinks[index]->answers.load() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  SystemClock clock;
  std::vector<SinkPtr> sinks;
  Batch batch;
};

inline std::vector<Tensor> EchoedOutputs(const Request& request) {
  Tensor tensor = request.inputs.at(0);
  tensor.name = "OUT";
  return {tensor};
}

inline bool EchoAll(Batch& batch) {
  for (size_t i = 0; i < batch.size(); ++i) batch.Respond(i, EchoedOutputs(batch.request(i)), {});
  return true;
}

}  // namespace pyinfer::testing
