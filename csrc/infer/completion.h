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

  // Called exactly once for each request, from any thread, without locks held. Must not block.
  // `request` is the one being answered (its model, id and requested outputs are needed to write the answer).
  virtual void Complete(const Request& request, Response response) noexcept = 0;

  // True once nobody waits for the answer any more. Complete is called all the same. Any thread.
  virtual bool cancelled() const noexcept = 0;
};

}  // namespace pyinfer
