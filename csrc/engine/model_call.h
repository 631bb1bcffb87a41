// SPDX-License-Identifier: Apache-2.0
// model_call.h - a request that a model makes of another one ("business logic scripting"), and what comes back.
//
// A call is a push on the callee's queue and a place where its responses are waited for; no bytes are copied here. It
// is cancelled with the requests on whose behalf it is made, and inherits what is left of their time in the queue.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/mailbox.h"
#include "engine/engine.h"

namespace pyinfer {

// Calls of one event loop that have something to take.
using CallMailbox = MailQueue<uint64_t>;

// On whose behalf a call is made.
struct CallOrigin {
  // Of the instance that waits for the answer; null where none does: a thread or a task that the model started.
  std::shared_ptr<Model> model;
  size_t instance = 0;
  std::vector<const Request*> parents;  // looked at while the call is started, not kept
  std::shared_ptr<Trace> trace;         // that the call belongs to, if any
};

// Any thread.
class ModelCall final : public CompletionSink, public std::enable_shared_from_this<ModelCall> {
 public:
  struct Item {
    Response response;
    bool final = false;
  };

  // A call that another one makes, and so on, is refused beyond this.
  static constexpr uint32_t kMaxDepth = 64;

  explicit ModelCall(std::shared_ptr<Engine> engine) : engine_(std::move(engine)) {}
  ~ModelCall() override;

  // Queues `request`, whose sink this is, or answers it with the reason why not. `decoupled`: the caller takes any
  // number of responses. Called once. May run the callee on this thread, where it is quick.
  void Start(RequestPtr request, const CallOrigin& origin, bool decoupled);

  // The next response; waits for it. Nothing once the last one was taken.
  std::optional<Item> Next();
  // The same, but does not wait: nothing as well where there is none yet.
  std::optional<Item> Poll();
  bool ended() const;
  // Posts `number` to `mailbox` when the last response is there, at once where it is.
  void Notify(std::shared_ptr<CallMailbox> mailbox, uint64_t number);
  // Nobody waits for what is still to come.
  void Cancel();

  void Send(const Request& request, Response response, bool final) noexcept override;
  bool cancelled() const noexcept override;

 private:
  std::optional<Item> TakeLocked();
  // What keeps the call from being made; OK otherwise.
  Status Enter(Request& request, const CallOrigin& origin, bool decoupled);

  const std::shared_ptr<Engine> engine_;
  std::vector<std::weak_ptr<const CompletionSink>> parents_;  // written before the request is queued
  std::vector<Slice> inputs_;                                 // an output that shares their bytes is marked
  std::optional<uint64_t> wait_;                              // in the engine's CallGraph
  std::atomic<bool> cancelled_{false};

  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Item> items_;
  bool final_ = false;  // the last one is there, or was taken
  std::shared_ptr<CallMailbox> mailbox_;
  uint64_t number_ = 0;
};

}  // namespace pyinfer
