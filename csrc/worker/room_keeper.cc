// SPDX-License-Identifier: Apache-2.0
#include "worker/room_keeper.h"

#include <utility>

namespace pyinfer {
namespace {

// In this order: who is woken by the room looks whether to go on.
void TellRoom(bool cancelled, uint32_t responses, RequestSigns& signs) {
  if (cancelled) signs.Cancel();
  signs.SetRoom(responses);
}

}  // namespace

void RoomKeeper::NoteResponse(uint64_t number, uint32_t responses, const Responder& responder, RequestSigns& signs) {
  std::lock_guard<std::mutex> lock(mutex_);
  held_up_.erase(number);  // who waits behind the one before waits behind this one as well
  std::unique_ptr<RoomWait> wait = responder.AskForRoom(shared_from_this());
  if (!wait) return TellRoom(responder.cancelled(), responses, signs);
  held_up_.emplace(number, HeldUp{std::move(wait), responses, &signs});
}

void RoomKeeper::Forget(uint64_t number) {
  std::lock_guard<std::mutex> lock(mutex_);
  held_up_.erase(number);
}

void RoomKeeper::Look() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto at = held_up_.begin(); at != held_up_.end();) {
    if (!at->second.wait->over()) {
      ++at;
      continue;
    }
    TellRoom(at->second.wait->cancelled(), at->second.responses, *at->second.signs);
    at = held_up_.erase(at);
  }
}

}  // namespace pyinfer
