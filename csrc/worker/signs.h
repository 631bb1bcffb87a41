// SPDX-License-Identifier: Apache-2.0
// signs.h - what a server goes on saying of a request while a worker process has it.
//
// They lie in the message of its batch, one for each request, in front of the tensors. The server writes, the worker
// reads: what else would be written there harms the worker alone.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "infer/completion.h"
#include "worker/futex.h"

namespace pyinfer {

class RequestSigns {
 public:
  // Of request `index` of a message whose data begin at `data`. All zeros: not cancelled, and no response is waited
  // for.
  static RequestSigns& At(uint8_t* data, size_t index) { return reinterpret_cast<RequestSigns*>(data)[index]; }
  static const RequestSigns& At(const uint8_t* data, size_t index) {
    return reinterpret_cast<const RequestSigns*>(data)[index];
  }

  void Cancel() { cancelled_.store(1, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed) != 0; }

  // From now on, whoever makes responses waits behind each until the server says that there is room for more.
  void LimitRoom() { room_.store(kNone, std::memory_order_release); }
  // There is room behind so many responses.
  void SetRoom(uint32_t responses) {
    room_.store(responses % kNone + kNone, std::memory_order_release);
    FutexWake(room_);
  }
  // Blocks until there is room behind `responses`.
  void WaitForRoom(uint32_t responses) const {
    for (;;) {
      const uint32_t room = room_.load(std::memory_order_acquire);
      if (room < kNone || cancelled() || room - kNone >= responses % kNone) return;
      FutexWait(room_, room, std::chrono::nanoseconds(RoomWait::kLook).count());
    }
  }

 private:
  static constexpr uint32_t kNone = uint32_t{1} << 31;

  std::atomic<uint32_t> cancelled_;
  std::atomic<uint32_t> room_;  // 0: it is not limited; otherwise kNone and the number of responses
};
static_assert(std::atomic<uint32_t>::is_always_lock_free && sizeof(RequestSigns) == 8);

}  // namespace pyinfer
