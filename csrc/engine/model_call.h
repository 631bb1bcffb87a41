// SPDX-License-Identifier: Apache-2.0
// model_call.h - a request that a model makes of another one ("business logic scripting").
//
// A call is a push on the callee's queue and a place where its responses go; no bytes are copied here. It is cancelled
// with the requests on whose behalf it is made, and inherits what is left of their time in the queue.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/call.h"
#include "engine/engine.h"
#include "infer/call_parent.h"

namespace pyinfer {

// On whose behalf a call is made.
struct CallOrigin {
  // Of the instance that waits for the answer; null where none does: a thread or a task that the model started.
  std::shared_ptr<Model> model;
  size_t instance = 0;
  std::vector<std::weak_ptr<const CompletionSink>> parents;
  uint32_t depth = 0;            // of the call: one more than the deepest of its parents
  bool has_all_time = false;     // one of them has
  uint64_t rest_us = 0;          // the longest time that one of the others has left in a queue
  std::shared_ptr<Trace> trace;  // that the call belongs to, if any
  // The call is not a model's but a client's, in this process: errors have the texts and codes that clients get.
  bool of_client = false;
  // False: several calls are to be queued together, and share a batch. Somebody has to call Engine::Dispatch() then.
  bool dispatch = true;
  // The thread that makes the call waits for the answer, and may execute the callee meanwhile.
  bool runs_callee = false;

  void AddParent(const CallParent& parent, TimeNs now);
  void AddParent(const Request& parent, TimeNs now) { AddParent(CallParent::Of(parent), now); }
};

// What is answered, by the words that models know, where a call was never queued.
Status CallRefusal(const std::string& model, const Status& reason);

// Any thread.
class ModelCall : public CompletionSink, public WaitingCall, public std::enable_shared_from_this<ModelCall> {
 public:
  // A call that another one makes, and so on, is refused beyond this.
  static constexpr uint32_t kMaxDepth = 64;

  explicit ModelCall(std::shared_ptr<Engine> engine) : engine_(std::move(engine)) {}
  ~ModelCall() override { StopWaiting(); }

  // Queues `request`, whose sink this is, or answers it with the reason why not. `decoupled`: the caller takes any
  // number of responses. Called once. May run the callee on this thread, where it is quick or is lent to it.
  void Start(RequestPtr request, const CallOrigin& origin, bool decoupled);
  // Nobody waits for what is still to come.
  void Cancel();
  // The same, and the instance that waited is not there any more.
  void Abandon();

  void Refuse() noexcept final;
  void Send(const Request& request, Response response, bool final) noexcept final;
  bool cancelled() const noexcept final;

 protected:
  // Takes one response, in order.
  virtual void Deliver(Response response, bool final) noexcept = 0;

 private:
  // What keeps the call from being made; OK otherwise.
  Status Enter(Request& request, const CallOrigin& origin, bool decoupled);
  void StopWaiting();

  const std::shared_ptr<Engine> engine_;
  bool of_client_ = false;                                    // written before the request is queued
  std::vector<std::weak_ptr<const CompletionSink>> parents_;  // written before the request is queued
  std::shared_ptr<const ModelSpec> caller_;                   // whose instance waits; null where none does
  std::vector<Slice> inputs_;                                 // an output that shares their bytes is marked
  std::atomic<uint64_t> wait_{0};                             // in the engine's CallGraph; 0: none
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> refused_{false};  // when it was on its way already
};

// One whose caller is in this process.
class LocalCall final : public ModelCall, public Call {
 public:
  using ModelCall::ModelCall;

  void Cancel() override { ModelCall::Cancel(); }

 protected:
  void Deliver(Response response, bool final) noexcept override { Put({std::move(response), final}); }
};

}  // namespace pyinfer
