// SPDX-License-Identifier: Apache-2.0
// completion.h - where answers go: the one point at which scheduling and protocols meet.
#pragma once

#include "infer/response.h"

namespace pyinfer {

class Request;

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
};

}  // namespace pyinfer
