// SPDX-License-Identifier: Apache-2.0
// placed_inputs.h - memory that a server shares with all workers of one model, for large inputs.
//
// An input is received here, before anybody knows which worker will have it. That one is told where it is, and reads it
// from there; nothing is copied. The block is used for another input once the server has let go of it and the worker
// has given it back, or is gone.
//
// The memory is that of a lane (lane.h), whose ring is not used.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>

#include "base/status.h"
#include "memory/buffer.h"
#include "memory/input_room.h"
#include "worker/lane.h"

namespace pyinfer {

// Any thread.
class PlacedInputs final : public InputRoom {
 public:
  static StatusOr<std::shared_ptr<PlacedInputs>> Create();

  int fd() const { return memory_->fd(); }
  // Null where 4 GiB are in use: inputs that nobody sends to their end take no more than that.
  BufferPtr Allocate(size_t size) override;

  // Where `bytes` lie in the memory; nothing where they do not. Never blocks.
  std::optional<uint64_t> OffsetOf(std::string_view bytes) const;
  // Hands an input to `worker`, a number that is not 0, which is to be told where it is: that, or nothing where `bytes`
  // are not the beginning of an input, or a worker has had it before.
  std::optional<uint64_t> Hand(const Slice& bytes, uint64_t worker);
  // It was not told after all.
  void TakeBack(const Slice& bytes);
  // The worker is gone, and what it has not given back is free.
  void Forget(uint64_t worker);

 private:
  explicit PlacedInputs(LaneMemoryPtr memory);

  const LaneMemoryPtr memory_;
  std::mutex mutex_;
  LaneWriter writer_;
};

}  // namespace pyinfer
