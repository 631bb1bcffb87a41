// SPDX-License-Identifier: Apache-2.0
// completion.h - where answers go: the one point at which scheduling and protocols meet.
#pragma once

#include <memory>

#include "infer/response.h"

namespace pyinfer {

class Request;
class RequestObserver;

// A protocol makes one for each request.
// Shared between the protocol, which may cancel, and the request, which answers.
class CompletionSink {
 public:
  virtual ~CompletionSink() = default;

  // Takes one response, in order; exactly one call, the last, has `final`. A model that is not decoupled has that call
  // alone. From any thread, never two at a time for one request, without locks held. Must not block.
  // `request` is the one being answered (its model, id and requested outputs are needed to write the answer).
  virtual void Send(const Request& request, Response response, bool final) noexcept = 0;

  // True once nobody waits for the answer any more. Send is called all the same. Any thread.
  virtual bool cancelled() const noexcept = 0;

  // Holds up whoever makes several responses as long as those that were sent are not taken further: they would pile up.
  // Returns at once where they are, where nobody waits for them any more, and where they could only be taken further by
  // whoever waits here. For threads that run the code of models: no lock is held and no Burst is open.
  // `producer`: the observer of the request that is being answered.
  virtual void WaitForRoom(const std::shared_ptr<RequestObserver>& /*producer*/) const {}
};

}  // namespace pyinfer
