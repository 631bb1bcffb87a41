// SPDX-License-Identifier: Apache-2.0
// room_keeper.h - tells a worker process behind which of the responses that it makes there is room for more.
//
// The worker's thread that has made a response sleeps until it is told; no thread of the server waits with it.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "infer/completion.h"
#include "sched/responder.h"
#include "worker/signs.h"

namespace pyinfer {

// Any thread.
class RoomKeeper final : public RoomListener, public std::enable_shared_from_this<RoomKeeper> {
 public:
  // `responder` has sent one more response to request `number`, the `responses`th. `signs` must stay until Forget.
  // Where there is room because nobody waits for responses any more, the worker is told that first.
  void NoteResponse(uint64_t number, uint32_t responses, const Responder& responder, RequestSigns& signs);
  void Forget(uint64_t number);
  // Tells what is not told yet. To be called now and then, and called by those who are waited for.
  void Look();
  void OnRoom() noexcept override { Look(); }

 private:
  struct HeldUp {
    std::unique_ptr<RoomWait> wait;
    uint32_t responses;
    RequestSigns* signs;
  };

  std::mutex mutex_;
  std::unordered_map<uint64_t, HeldUp> held_up_;
};

}  // namespace pyinfer
