// SPDX-License-Identifier: Apache-2.0
// call_server.h - the calls that the model in one worker process makes of other models, in the server.
//
// Each is an ordinary ModelCall whose responses are sent to the worker. A worker that is gone leaves none behind: all
// that is open is cancelled. Responses that the worker does not take yet are kept here; nobody is blocked by it.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "base/status.h"
#include "engine/model_call.h"
#include "worker/call_message.h"
#include "worker/lanes.h"

namespace pyinfer {

// Any thread.
class CallServer : public std::enable_shared_from_this<CallServer> {
 public:
  struct Hooks {
    // On whose behalf a call is made.
    std::function<CallOrigin(const CallTerms&, TimeNs now)> origin;
    // The worker has said what can not be true; nothing more of it is heard.
    std::function<void(const Status&)> broken;
  };

  // `engine` may be null: every call is refused then. The hooks are called on a thread of this, until Stop returns.
  CallServer(std::shared_ptr<Engine> engine, const WorkerLanes& lanes, Hooks hooks)
      : engine_(std::move(engine)), hooks_(std::move(hooks)), reader_(lanes.calls, true), writer_(lanes.responses) {}
  ~CallServer() { Stop(); }
  CallServer(const CallServer&) = delete;
  CallServer& operator=(const CallServer&) = delete;

  // Listens from now on. Idempotent; nothing after End.
  void Serve();
  // The worker is gone: cancels what is open. Idempotent.
  void End();
  // The same, and waits for the threads; not on one of them.
  void Stop();

 private:
  class Forwarded;
  struct Pending {
    uint64_t number;
    Response response;
    bool final;
  };

  void Listen();
  Status Take(const Slice& message);
  Status Start(const Slice& message);
  void Deliver(uint64_t number, Response response, bool final);
  // False where the worker has to take something first. Requires: mutex_ is held, as for the next one.
  bool TrySendLocked(const Pending& pending);
  void SendBacklog();

  const std::shared_ptr<Engine> engine_;
  const Hooks hooks_;
  LaneReader reader_;

  std::mutex mutex_;
  std::condition_variable changed_;
  LaneWriter writer_;
  std::unordered_map<uint64_t, std::shared_ptr<ModelCall>> calls_;
  std::deque<Pending> backlog_;
  uint64_t last_ = 0;  // the highest number of a call so far
  bool ended_ = false;
  size_t running_ = 0;  // threads
  std::thread listener_;
  std::thread sender_;  // of the backlog; started when there first is one
};

}  // namespace pyinfer
