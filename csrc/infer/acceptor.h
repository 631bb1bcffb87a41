// SPDX-License-Identifier: Apache-2.0
// acceptor.h - where protocols hand requests in. The engine is one; protocols know nothing else of it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "infer/request.h"
#include "memory/input_room.h"
#include "memory/shm_registry.h"

namespace pyinfer {

// Told, from any thread, that NextExpiry() moved to an earlier time.
class ExpiryListener {
 public:
  virtual ~ExpiryListener() = default;
  virtual void OnEarlierExpiry() noexcept = 0;
};

class RequestAcceptor {
 public:
  virtual ~RequestAcceptor() = default;

  // The time that timelines are written in. Any thread.
  virtual TimeNs Now() const = 0;

  // The model that request.model_name and model_version mean now; sets request.model. Lets a protocol refuse an unknown
  // model before it reads the tensors, and tells it the model's tensors where the message alone does not. Any thread.
  virtual Status Resolve(Request& request) = 0;

  // Where large inputs of that model (version -1: its latest) are best received; null where that does not matter, or
  // there is no such model. Any thread.
  virtual std::shared_ptr<InputRoom> RoomFor(const std::string& model, int64_t version) const {
    static_cast<void>(model);
    static_cast<void>(version);
    return nullptr;
  }

  // The shared memory that requests may name. Any thread.
  virtual const SharedMemoryRegistry& shared_memory() const = 0;

  // Validates and queues. Takes ownership in every case: a refused request is answered through its own sink before this
  // returns. The request is dispatched by the next Dispatch() at the latest. Any thread.
  virtual void Submit(RequestPtr request) = 0;

  // Wakes (or runs, where that is quicker) the instances that have work since the last call, and answers what was
  // cancelled or has expired in a queue. Called once for a burst of submissions. Any thread.
  virtual void Dispatch() = 0;

  // Takes what processes that execute models have answered, and rang for. For whoever hears the doorbell; others may
  // find it, too. Any thread.
  virtual void TakeAnswers() {}

  // When Dispatch must be called although nothing happens, because a request's time in a queue is over; 0 for never.
  virtual TimeNs NextExpiry() const { return 0; }
  // Has `listener` told where that moved by something that no thread asked for that will look at it: a step of an
  // ensemble was queued.
  virtual void Listen(std::weak_ptr<ExpiryListener> listener) { static_cast<void>(listener); }

  // Notes that some request was cancelled: the next Dispatch looks for it in the queues. Any thread.
  virtual void NoteCancellation() = 0;
};

}  // namespace pyinfer
