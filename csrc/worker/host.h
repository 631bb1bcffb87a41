// SPDX-License-Identifier: Apache-2.0
// host.h - the server's end of one instance whose batches are executed by a worker process.
//
// A Host lives as long as its instance; its workers come and go. The thread of the instance hands it batches. Whoever
// looks after the processes tells it of each worker that is ready to execute (Attach) and of each that is gone (End).
// A worker that is gone takes the batch with it that it was executing, and the requests that it was to answer apart:
// they are answered with the reason. A batch that the worker had not begun waits for the next one.
//
// What a worker says is checked before it is believed; one that says what can not be true is not listened to any more.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "engine/engine.h"
#include "sched/batch.h"
#include "worker/lanes.h"

namespace pyinfer {

class WorkerSession;

class WorkerHost {
 public:
  // `execution_limit`: a batch may take so long; 0: any time. `engine`: what workers may call models of; may be null.
  explicit WorkerHost(TimeNs execution_limit, std::shared_ptr<Engine> engine = nullptr)
      : execution_limit_(execution_limit), engine_(std::move(engine)) {}
  ~WorkerHost();
  WorkerHost(const WorkerHost&) = delete;
  WorkerHost& operator=(const WorkerHost&) = delete;

  // The next worker, with the lanes that it has been given, which may call models from now on (ServeCalls). `kill` ends
  // its process, at once; any thread may call it, until End has returned. Requires: there is none, or it was ended.
  void Announce(const WorkerLanes& lanes, std::function<void()> kill);
  // Listens to the calls of the worker that was announced. Idempotent.
  void ServeCalls();
  // That worker is ready to execute.
  void Attach();
  // The worker is gone; `reason` is what its requests are answered with.
  void End(const Status& reason);
  // There will be no more workers, but the one that there is goes on: an instance that still has a batch executes it.
  // `reason` is what a batch is answered with that no worker takes.
  void Close(const Status& reason);

  // Blocks until there is a worker. False once there will be none.
  bool WaitReady();
  // Answers every request of the batch, or has it answered apart. Blocks meanwhile. One batch at a time. `model` and
  // `instance`: which one is busy with it; null where that is not known.
  void Execute(Batch& batch, const std::shared_ptr<Model>& model = nullptr, size_t instance = 0);
  // Blocks until the worker has answered all that it was to answer apart, or is gone, or Close was called.
  void WaitLate();
  // Lets the worker end once it is done with what was sent to it.
  void Stop();

  // Batches that workers have executed to their end.
  uint64_t executed() const { return executed_.load(std::memory_order_relaxed); }

 private:
  std::shared_ptr<WorkerSession> Session();
  std::shared_ptr<WorkerSession> WaitSession();

  const TimeNs execution_limit_;
  const std::shared_ptr<Engine> engine_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<WorkerSession> session_;
  bool ready_ = false;  // to execute
  bool closed_ = false;
  Status closed_reason_;
  std::atomic<uint64_t> executed_{0};
};

}  // namespace pyinfer
