// SPDX-License-Identifier: Apache-2.0
// call_client.h - the calls that the model in this worker process makes of other models.
//
// A thread that waits for an answer takes what the server has sent, for all calls; one thread at a time does so, the
// others wait for it. Where nobody waits but an event loop, a thread of this does.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "base/status.h"
#include "engine/call.h"
#include "worker/call_message.h"
#include "worker/lane.h"

namespace pyinfer {

// Any thread.
class CallClient : public std::enable_shared_from_this<CallClient> {
 public:
  // `calls` and `responses` are the two lanes, as file descriptors; takes them over.
  static StatusOr<std::shared_ptr<CallClient>> Make(int calls, int responses);
  ~CallClient();
  CallClient(const CallClient&) = delete;
  CallClient& operator=(const CallClient&) = delete;

  // Sends the call and gives it its number. Blocks while the server is far behind.
  std::shared_ptr<Call> Start(const Request& request, CallTerms terms);
  // One that is answered with why it can not be made.
  std::shared_ptr<Call> Refuse(const Request& request, const Status& reason);

 private:
  class Remote;
  struct Open {
    std::weak_ptr<Remote> call;  // what comes back is kept there, as long as somebody has it
    bool listening = false;      // for an event loop
  };

  CallClient(LaneMemoryPtr calls, LaneMemoryPtr responses) : writer_(std::move(calls)), reader_(std::move(responses)) {}
  void Cancel(uint64_t number);
  // Waits for a while, until `call` may have something to take.
  void Wait(const Remote& call);
  void Listen(const Remote& call);
  void ListenForLoops();
  // Hands out what was sent, having waited for it. Requires: mutex_ is held by `lock`, nobody else does this.
  void TakeLocked(std::unique_lock<std::mutex>& lock);

  std::mutex sending_;  // before mutex_
  LaneWriter writer_;
  uint64_t last_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  LaneReader reader_;
  bool taking_ = false;  // a thread does
  std::unordered_map<uint64_t, Open> calls_;
  size_t listening_ = 0;  // calls of event loops that are not ended
  bool stopping_ = false;
  std::thread listener_;  // for those; started when there first is one
};

}  // namespace pyinfer
