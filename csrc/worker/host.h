// SPDX-License-Identifier: Apache-2.0
// host.h - the server's end of one instance whose batches are executed by a worker process.
//
// A Host lives as long as its instance; its workers come and go. The thread of the instance hands it batches. Whoever
// looks after the processes tells it of each worker that is ready to execute (Attach) and of each that is gone (End).
// A worker that is gone takes the batch with it that it was executing, and the requests that it was to answer apart:
// they are answered with the reason. A batch that the worker had not begun waits for the next one.
//
// A worker may be attached while there still is another one: that one keeps what it has begun, and gets nothing more.
//
// While the thread of the instance has nothing to do, others may send its worker a batch (Begin), and it goes on with
// that one (Complete). It may wait for the answer beforehand (Watch): then nobody has to wake it but the worker. Where
// an event loop hears the engine's doorbell, the worker rings that for small batches, and the loop goes on with them
// (TryComplete): the thread is not woken at all then, and only looks whether something takes long.
//
// What a worker says is checked before it is believed; one that says what can not be true is not listened to any more.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "base/doorbell.h"
#include "base/status.h"
#include "engine/lending.h"
#include "sched/batch.h"
#include "worker/lanes.h"
#include "worker/placed_inputs.h"

namespace pyinfer {

class Engine;
class Model;
class WorkerSession;

class WorkerHost {
 public:
  // `execution_limit`: a batch may take so long; 0: any time. `engine`: what workers may call models of; may be null.
  // `inputs`: where large inputs may be that its workers can read; null where there are none.
  explicit WorkerHost(TimeNs execution_limit, std::shared_ptr<Engine> engine = nullptr,
                      std::shared_ptr<PlacedInputs> inputs = nullptr);
  ~WorkerHost();
  WorkerHost(const WorkerHost&) = delete;
  WorkerHost& operator=(const WorkerHost&) = delete;

  // A new worker, with the lanes that it has been given. `kill` ends its process, at once; any thread may call it,
  // until End has returned.
  std::shared_ptr<WorkerSession> Announce(const WorkerLanes& lanes, std::function<void()> kill);
  // That worker is ready to execute: batches go to it from now on. Requires: it was announced, and not ended.
  void Attach(const std::shared_ptr<WorkerSession>& session);
  // The worker is gone; `reason` is what its requests are answered with. Idempotent.
  void End(const std::shared_ptr<WorkerSession>& session, const Status& reason);
  // There will be no more workers, but the one that there is goes on: an instance that still has a batch executes it.
  // `reason` is what a batch is answered with that no worker takes.
  void Close(const Status& reason);

  // Blocks until there is a worker. False once there will be none.
  bool WaitReady();
  // Answers every request of the batch, or has it answered apart. Blocks meanwhile. One batch at a time. `model` and
  // `instance`: which one is busy with it; null where that is not known.
  void Execute(Batch& batch, const std::shared_ptr<Model>& model = nullptr, size_t instance = 0);
  // Keeps the batch for Complete, and sends it if little is to be copied and there is a worker to take it. Never
  // blocks. Any thread, ordered with those of Execute, TryComplete and Complete; none of them is under way, and one of
  // the last two follows.
  HeardBy Begin(Batch batch, const std::shared_ptr<Model>& model = nullptr, size_t instance = 0);
  // As Execute, of that batch, and finishes it.
  void Complete(const std::shared_ptr<Model>& model = nullptr, size_t instance = 0);
  // The same, where the worker has answered it, and that takes no time. Never blocks. Any thread.
  BatchStarter::Progress TryComplete();
  // Whether it makes sense to watch: the last batch was one that others had sent, or they have sent one now. Then it is
  // to be followed by Watch, and others may call Begin and TryComplete from now on. Of the thread that calls Complete,
  // as Watch is.
  bool PrepareWatch();
  bool KeepWatching() { return wakes_.load(std::memory_order_acquire) == wakes_seen_ && PrepareWatch(); }
  // Blocks until the worker says something that nobody else hears, Wake was called since PrepareWatch, or it is time to
  // look for other work. Whether others have completed batches since PrepareWatch.
  bool Watch();
  // Any thread.
  void Wake();
  // Blocks until the workers have answered all that they were to answer apart, or are gone, or Close was called.
  void WaitLate();
  // Lets the workers end once they are done with what was sent to them.
  void Stop();

  // Null where there are none.
  const std::shared_ptr<PlacedInputs>& inputs() const { return inputs_; }
  const Doorbell& doorbell() const { return *doorbell_; }
  // Batches that workers have executed to their end.
  uint64_t executed() const { return executed_.load(std::memory_order_relaxed); }

 private:
  std::shared_ptr<WorkerSession> WaitSession();

  const TimeNs execution_limit_;
  const std::shared_ptr<Engine> engine_;
  const std::shared_ptr<PlacedInputs> inputs_;
  const std::shared_ptr<Doorbell> doorbell_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<WorkerSession>> sessions_;  // that were announced, and not ended
  std::shared_ptr<WorkerSession> attached_;
  bool closed_ = false;
  Status closed_reason_;
  std::atomic<uint64_t> executed_{0};
  // Of whoever is in one of Begin, Execute, TryComplete and Complete. The session has the batch's address once it is
  // sent.
  Batch begun_;
  std::shared_ptr<WorkerSession> begun_by_;  // null where it is not sent
  bool rings_ = false;                       // for the batch that was sent last
  // Who executed a batch last that others had sent. A worker that is gone is not kept for that, nor its memory.
  std::weak_ptr<WorkerSession> last_begun_by_;
  // Of the thread that watches; Begin reads the first two.
  bool watches_lane_ = false;
  std::weak_ptr<WorkerSession> watched_;
  uint32_t wakes_seen_ = 0;
  uint64_t completed_seen_ = 0;
  std::atomic<uint32_t> wakes_{0};
  std::atomic<uint64_t> completed_{0};  // by TryComplete
};

}  // namespace pyinfer
