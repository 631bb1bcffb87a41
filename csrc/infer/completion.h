// SPDX-License-Identifier: Apache-2.0
// completion.h - where answers go: the one point at which scheduling and protocols meet.
#pragma once

#include <chrono>
#include <memory>

#include "infer/response.h"

namespace pyinfer {

class HeldResources;
class Request;
class RequestObserver;

// Who makes the responses to a request.
struct Producer {
  std::shared_ptr<RequestObserver> observer;  // of the request
  std::weak_ptr<const HeldResources> held;    // by its instance, until the batch of the request is executed
};

// Somebody who has made a response, and is to make no more for now.
class RoomWait {
 public:
  // So often, and whenever its listener is told, over() is to be looked at.
  static constexpr std::chrono::milliseconds kLook{50};

  virtual ~RoomWait() = default;
  // True once those that were sent are taken further, or nobody waits for them any more, or waiting would be for ever.
  // One thread at a time.
  virtual bool over() = 0;
  // Whether nobody waits for the responses any more. Any thread.
  virtual bool cancelled() const = 0;
};

// Told from any thread, without locks held, that a RoomWait may be over.
class RoomListener {
 public:
  virtual ~RoomListener() = default;
  virtual void OnRoom() noexcept = 0;
};

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

  // Whoever makes several responses is held up as long as those that were sent are not taken further: they would pile
  // up. Not where nobody waits for them any more, nor where they could only be taken further by whoever waits.
  // Whether that can be at all.
  virtual bool limits_room() const { return false; }
  // Blocks as long as that is so. For threads that run the code of models: no lock is held and no Burst is open.
  virtual void WaitForRoom(const Producer& /*producer*/) const {}
  // The same without a thread: null where nothing has to be waited for. `listener` must not be null.
  virtual std::unique_ptr<RoomWait> AskForRoom(const Producer& /*producer*/,
                                               std::shared_ptr<RoomListener> /*listener*/) const {
    return nullptr;
  }
};

}  // namespace pyinfer
