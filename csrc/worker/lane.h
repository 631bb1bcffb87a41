// SPDX-License-Identifier: Apache-2.0
// lane.h - messages in one direction between two processes, in memory that has no name.
//
// The memory is a memfd that can grow and never shrink. Its first page has a ring of descriptors; the rest are blocks,
// one for each message. The writer alone decides where blocks are, from books that it keeps for itself; the reader
// gives a block back by a mark in it. Nothing that the other side may write is used before it was checked against the
// size of the memory. Each side maps a window that is larger than the memory, so that it grows without being mapped
// anew.
//
//   page 0        written, read (counts of messages), who waits for them, kEntries x {offset, size}
//   block         64 bytes: `released`; then the message, aligned to 64
//
// A reader that finds nothing sleeps on the count (a futex); a writer wakes only who sleeps.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "memory/buffer.h"
#include "worker/futex.h"

namespace pyinfer {

inline constexpr size_t kLaneAlignment = 64;

constexpr uint64_t LaneAligned(uint64_t size) { return (size + kLaneAlignment - 1) / kLaneAlignment * kLaneAlignment; }

// The memory of one lane in this process. Any thread.
class LaneMemory {
 public:
  // A new one, empty.
  static StatusOr<std::shared_ptr<LaneMemory>> Create();
  // One that another process has made; takes `fd` over. InvalidArg where it is no such memory.
  static StatusOr<std::shared_ptr<LaneMemory>> Adopt(int fd);
  ~LaneMemory();
  LaneMemory(const LaneMemory&) = delete;
  LaneMemory& operator=(const LaneMemory&) = delete;

  int fd() const { return fd_; }
  uint8_t* base() const { return base_; }
  // Whether the memory has at least `size` bytes.
  bool Reaches(uint64_t size) const;
  // Unavailable where the window is too small or there is no more memory.
  Status GrowTo(uint64_t size);
  // Lets the system have the pages of [from, to) back; they read as zeros afterwards.
  void Discard(uint64_t from, uint64_t to);

 private:
  LaneMemory(int fd, uint8_t* base, uint64_t window) : fd_(fd), base_(base), window_(window) {}
  static StatusOr<std::shared_ptr<LaneMemory>> Map(int fd);

  const int fd_;
  uint8_t* const base_;
  const uint64_t window_;
  mutable std::atomic<uint64_t> known_{0};  // the memory has at least this size
};

using LaneMemoryPtr = std::shared_ptr<LaneMemory>;

// The most addresses that a lane takes.
inline constexpr uint64_t kLargestLane = uint64_t{16} << 30;

// One thread at a time.
class LaneWriter {
 public:
  // It grows to `limit` bytes at most.
  explicit LaneWriter(LaneMemoryPtr memory, uint64_t limit = kLargestLane);

  // Memory for a message of `size` bytes. It is not used for another before the reader has given it back and, where it
  // is `pinned`, Unpin was called.
  StatusOr<uint8_t*> Allocate(uint64_t size, bool pinned = false);
  void Unpin(const uint8_t* message);
  // The message as bytes that outlive Unpin and the reader's giving it back: until their last owner lets go, no other
  // message lies there. The reader can still write to them. Requires: it is pinned, and was not lent before.
  BufferPtr Lend(const uint8_t* message);
  // Of messages that are not sent by TrySend, but told of elsewhere, to one of several readers.
  // Notes that the reader of that number, which is not 0, has the message until it gives it back. False where no
  // message begins there, or a reader has had it.
  bool HandTo(const uint8_t* message, uint64_t reader);
  // No reader has it, nor has had it.
  void TakeBack(const uint8_t* message);
  // That reader is gone, and has nothing any more.
  void ForgetReader(uint64_t reader);
  // False, having sent nothing, where the reader is kRoom messages behind. Requires: `message` was allocated for
  // `size`.
  bool TrySend(const uint8_t* message, uint64_t size);
  // Whether TrySend would send. Another thread may be inside, here and in WaitTaken.
  bool has_room() const;
  // Waits, for at most `timeout`, until the reader has taken something.
  void WaitTaken(TimeNs timeout);

  // Whether the reader has taken all that was sent.
  bool drained() const;
  size_t blocks() const { return blocks_.size(); }

 private:
  struct Block {
    uint64_t offset;
    uint64_t end;
    bool pinned;
    std::shared_ptr<const std::atomic<bool>> returned;  // of what is lent; null where nothing is
    uint64_t reader = 0;                                // that it was handed to
  };

  void Collect();
  // Null where no message begins there.
  Block* Find(const uint8_t* message);

  const LaneMemoryPtr memory_;
  const uint64_t limit_;
  std::vector<Block> blocks_;  // that are in use, ascending
  uint64_t size_ = 0;          // of the memory
  uint64_t touched_ = 0;       // nothing behind was ever used, or it was discarded
  std::atomic<uint32_t> sent_{0};
};

// One thread at a time, but for Wait.
class LaneReader {
 public:
  // `foreign`: as Buffer::foreign, of what is taken.
  explicit LaneReader(LaneMemoryPtr memory, bool foreign = false) : memory_(std::move(memory)), foreign_(foreign) {}

  // The next message, with its block, which is given back when the last owner of the bytes lets go. Nothing where there
  // is none; InvalidArg where what the writer says can not be true.
  StatusOr<std::optional<Slice>> TryTake();
  // How large the next message says that it is; nothing where there is none.
  std::optional<uint64_t> NextSize() const;
  // Waits, for at most `timeout`, until there is a message. Any number of threads.
  void Wait(TimeNs timeout);
  // The same, but also while `other` is as it was seen. Requires: CanFutexWaitEither().
  void WaitOr(const FutexSeen& other, TimeNs timeout);
  // Wakes those who wait, of this side.
  void Wake();

 private:
  const LaneMemoryPtr memory_;
  const bool foreign_;
  std::atomic<uint32_t> taken_{0};
};

// The `size` bytes of a message at `offset` of `memory` that has not come through its ring: as LaneReader takes those
// that have, once. InvalidArg where it is none.
StatusOr<Slice> TakeBlock(const LaneMemoryPtr& memory, uint64_t offset, uint64_t size);

}  // namespace pyinfer
