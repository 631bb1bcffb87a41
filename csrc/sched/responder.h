// SPDX-License-Identifier: Apache-2.0
// responder.h - a request that is answered apart from its batch: by several responses, from any thread, at any time.
//
// Owns the request. Every method may be called from any thread; calls are taken one after the other. A Responder that
// is destroyed before its last response ends the request with an error.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "infer/request.h"

namespace pyinfer {

class Responder {
 public:
  // Requires: `request` is not answered. `clock` must outlive this. `held`: what its batch holds while it is executed.
  Responder(RequestPtr request, const Clock& clock, std::weak_ptr<const HeldResources> held = {});
  ~Responder();
  Responder(const Responder&) = delete;
  Responder& operator=(const Responder&) = delete;

  // One response as the executor made it; `final`: the last. A fault in it is sent instead, as an error.
  // False where the request was ended before.
  bool Send(std::vector<Tensor> outputs, Parameters parameters, bool final);
  // An error as a response.
  bool Fail(Status status, bool final);
  // No more responses.
  bool End();
  // One of them is to be called after a response that is not the last: see CompletionSink.
  void WaitForRoom() const;
  std::unique_ptr<RoomWait> AskForRoom(std::shared_ptr<RoomListener> listener) const;
  // Ends this without a response, because the request is to be executed once more; null where it was ended before.
  RequestPtr TakeBack();

  bool ended() const { return ended_.load(std::memory_order_acquire); }
  // True once nobody waits for responses any more, or the request was ended.
  bool cancelled() const;
  // Responses that may be sent: 1 where the model is not decoupled.
  bool decoupled() const { return decoupled_; }

 private:
  // Requires: mutex_ is held and the request is not ended. `given` is when the executor handed the response over.
  void SendLocked(Response response, TimeNs given, bool final);
  void ReportLocked(const Response& response, TimeNs given, TimeNs now);

  // Where the responses go; null once the request is ended.
  std::pair<std::shared_ptr<const CompletionSink>, Producer> Producing() const;

  const Clock& clock_;
  const std::weak_ptr<const HeldResources> held_;
  const bool decoupled_;
  mutable std::mutex mutex_;
  RequestPtr request_;
  size_t sent_ = 0;       // responses so far
  TimeNs last_sent_ = 0;  // when the last of them was ready to be sent
  std::atomic<bool> ended_{false};
};

}  // namespace pyinfer
