// SPDX-License-Identifier: Apache-2.0
// session.h - one worker process as the server talks to it: from the moment it is ready until it is gone.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "engine/lending.h"
#include "sched/batch.h"
#include "worker/call_server.h"
#include "worker/futex.h"
#include "worker/lanes.h"
#include "worker/message.h"
#include "worker/placed_inputs.h"
#include "worker/room_keeper.h"

namespace pyinfer {

class WorkerSession {
 public:
  // `engine`: what the worker may call models of; may be null. `inputs`: the placed inputs that it can read; null where
  // there are none.
  WorkerSession(const WorkerLanes& lanes, std::shared_ptr<Engine> engine, std::shared_ptr<PlacedInputs> inputs,
                std::function<void()> kill);
  ~WorkerSession();
  WorkerSession(const WorkerSession&) = delete;
  WorkerSession& operator=(const WorkerSession&) = delete;

  // The instance that executes a batch; null where that is not known.
  struct Executor {
    std::shared_ptr<Model> model;
    size_t instance = 0;
  };
  enum class Outcome { kDone, kFailed, kNotBegun };
  // How often a batch that takes long is looked at: whether somebody has cancelled, whether its time is over.
  static constexpr TimeNs kLook = 25'000'000;
  // Answers of so many bytes are written by event loops: as JSON that takes about as long as to hand them to another
  // thread.
  static constexpr uint64_t kMostTaken = uint64_t{16} << 10;
  // Has the worker execute `batch`. kFailed: all is answered, by why it could not; kNotBegun: nothing is.
  // `limit`: 0 for none. One at a time. One that is to stop begins nothing.
  Outcome Execute(Batch& batch, TimeNs limit, Executor executor);
  // The same in two steps, between which `batch` stays where it is. Begin only sends it, and does not wait for others
  // that are inside: false where nothing was begun. Any thread. `rings`: the worker rings when it has an answer.
  bool Begin(Batch& batch, Executor executor, bool rings = false);
  Outcome Complete(Batch& batch, TimeNs limit);
  // The second step, where it can be taken at once: kLeft where Complete is to be called after all. Never blocks.
  BatchStarter::Progress TryComplete(Batch& batch);
  // Waits until the worker says something, `other` is not as it was seen, or it is time to look again.
  void Watch(const FutexSeen& other);
  // Lets the worker end once it is done with what was sent to it. Any thread.
  void Stop();
  // The same, if it executes nothing and has nothing to answer apart; false otherwise.
  bool StopIdle();
  void ServeCalls() { calls_->Serve(); }

  // Fails what the worker was to answer. Requires: its process is gone. Any thread; the first one counts.
  void End(const Status& reason);
  // Whether there are requests that it is to answer apart.
  bool has_late();
  bool ended() const { return ended_.load(std::memory_order_acquire); }
  // Whether it may be handed a batch.
  bool accepts() const { return !ended() && !stopped_.load(std::memory_order_acquire); }

 private:
  // A request that is answered apart.
  struct Late {
    std::shared_ptr<Responder> responder;
    std::shared_ptr<Trace> trace;
    CallParent parent;
    RequestSigns* signs;
    const uint8_t* message;
    bool room_limited;
    uint32_t responses = 0;  // that were not the last
  };
  // Where the message is; it is to be sent.
  StatusOr<uint8_t*> WriteLocked(const MessageWriter& writer, bool pinned);
  Status SendLocked(const MessageWriter& writer);
  Status SendLocked(const uint8_t* message, uint64_t size);
  Status SendBatchLocked(const Batch& batch, bool rings);
  // Has the worker read the large inputs from where they are, as far as it can; those that it was handed.
  std::vector<Slice> HandInputs(const std::vector<const Request*>& requests, MessageWriter& writer) const;
  Status BeginLocked(Batch& batch, Executor executor, bool rings);
  Outcome LeaveLocked(Batch& batch);
  void StopLocked();
  // Bytes of the inputs of the batch that is being executed, where outputs may lie.
  std::optional<Slice> LendLocked(Place place, uint64_t size);
  // Takes what the worker says. Requires: mutex_ is held, a Burst is open.
  void ListenLocked();
  Status TakeLocked(WorkerAnswers answers);
  Status TakeOneLocked(WorkerAnswer answer);
  Status TakeApartLocked(WorkerAnswer answer);
  Status FinishLocked(const WorkerAnswers& answers);
  // The index in the batch that is being executed; nothing where the request is not of it, or has its answer.
  std::optional<size_t> OpenIndex(uint64_t number) const;
  void DetachLocked(size_t index);
  void ForgetLocked(uint64_t number);
  void EndLocked(const Status& reason);
  // Tells the worker for whose answers nobody waits any more, and where there is room for more responses.
  void TellLocked();
  void ListenForLate();
  // What the worker says of a call, as far as it is true.
  CallOrigin OriginOf(const CallTerms& terms, TimeNs now);
  void Reject(const Status& status);

  const uint64_t number_;  // of the worker, among all of the process
  LaneWriter writer_;
  LaneReader reader_;
  const std::shared_ptr<PlacedInputs> inputs_;
  const std::function<void()> kill_;
  const std::shared_ptr<CallServer> calls_;
  const std::shared_ptr<RoomKeeper> room_ = std::make_shared<RoomKeeper>();

  std::mutex mutex_;
  std::condition_variable late_changed_;
  bool introduced_ = false;
  // What is being executed; null in between.
  Batch* batch_ = nullptr;
  TimeNs begun_ = 0;
  Executor executor_;
  uint64_t first_ = 0;
  uint64_t next_ = 1;
  const uint8_t* message_ = nullptr;
  Slice lent_;  // the same, once it was asked for
  uint8_t* signs_ = nullptr;
  bool done_ = false;
  Status reason_;
  std::atomic<bool> ended_{false};
  std::atomic<bool> stopped_{false};

  std::unordered_map<uint64_t, Late> late_;
  std::unordered_map<const uint8_t*, size_t> late_of_;  // messages -> how many of its requests are late
  std::thread listener_;  // of answers that come while no batch is executed; started when first needed
  bool stopping_ = false;
};

}  // namespace pyinfer
