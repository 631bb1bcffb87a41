// SPDX-License-Identifier: Apache-2.0
#include "worker/lane.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "worker/futex.h"

namespace pyinfer {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kFirstSize = uint64_t{1} << 20;
constexpr uint64_t kSmallestWindow = uint64_t{64} << 20;
// What a lane keeps of its memory once it is not needed.
constexpr uint64_t kKept = uint64_t{64} << 20;
constexpr uint32_t kRoom = 128;
constexpr unsigned kSeals = F_SEAL_SHRINK | F_SEAL_SEAL;

struct Entry {
  std::atomic<uint64_t> offset;
  std::atomic<uint64_t> size;
};

struct Head {
  alignas(64) std::atomic<uint32_t> written;
  std::atomic<uint32_t> readers_waiting;
  alignas(64) std::atomic<uint32_t> read;
  std::atomic<uint32_t> writers_waiting;
  alignas(64) std::array<Entry, kRoom> entries;
};
static_assert(sizeof(Head) <= kPage && std::atomic<uint32_t>::is_always_lock_free &&
              std::atomic<uint64_t>::is_always_lock_free);

Head& HeadOf(const LaneMemory& memory) { return *reinterpret_cast<Head*>(memory.base()); }

std::atomic<uint32_t>& ReleasedMark(const LaneMemory& memory, uint64_t block) {
  return *reinterpret_cast<std::atomic<uint32_t>*>(memory.base() + block);
}

bool IsInside(const LaneMemory& memory, uint64_t block, uint64_t size) {
  // Each of them far below what would make their sum wrap.
  return block % kLaneAlignment == 0 && block >= kPage && block <= kLargestLane && size <= kLargestLane &&
         memory.Reaches(block + kLaneAlignment + size);
}

// Sleeps while the word is as it was seen; the other side wakes only where it sees somebody waiting.
template <typename WaitFor>
void Sleep(std::atomic<uint32_t>& word, std::atomic<uint32_t>& waiting, uint32_t seen, WaitFor wait) {
  if (word.load(std::memory_order_acquire) != seen) return;
  waiting.fetch_add(1);
  if (word.load() == seen) wait();
  waiting.fetch_sub(1);
}

void Advance(std::atomic<uint32_t>& word, std::atomic<uint32_t>& waiting, uint32_t next) {
  word.store(next);
  if (waiting.load() != 0) FutexWake(word);
}

// The bytes of a message; gives the block back.
class LaneBuffer final : public Buffer {
 public:
  LaneBuffer(LaneMemoryPtr memory, uint64_t block, uint64_t size, bool foreign)
      : Buffer(memory->base() + block + kLaneAlignment, size),
        memory_(std::move(memory)),
        block_(block),
        foreign_(foreign) {}
  ~LaneBuffer() override { ReleasedMark(*memory_, block_).store(1, std::memory_order_release); }
  bool foreign() const override { return foreign_; }

 private:
  const LaneMemoryPtr memory_;
  const uint64_t block_;
  const bool foreign_;
};

// The bytes of a message that its writer still uses.
class LentBuffer final : public Buffer {
 public:
  LentBuffer(LaneMemoryPtr memory, uint8_t* message, uint64_t size, std::shared_ptr<std::atomic<bool>> returned)
      : Buffer(message, size), memory_(std::move(memory)), returned_(std::move(returned)) {}
  ~LentBuffer() override { returned_->store(true, std::memory_order_release); }
  bool foreign() const override { return true; }

 private:
  const LaneMemoryPtr memory_;
  const std::shared_ptr<std::atomic<bool>> returned_;
};

}  // namespace

StatusOr<LaneMemoryPtr> LaneMemory::Create() {
  const int fd = memfd_create("pyinfer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return Status::Unavailable("no memory can be had to share with a worker process");
  if (ftruncate(fd, static_cast<off_t>(kFirstSize)) != 0 || fcntl(fd, F_ADD_SEALS, kSeals) != 0) {
    close(fd);
    return Status::Unavailable("the memory to share with a worker process can not be made");
  }
  return Map(fd);
}

StatusOr<LaneMemoryPtr> LaneMemory::Adopt(int fd) {
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (static_cast<unsigned>(seals) & F_SEAL_SHRINK) == 0) {
    close(fd);
    return Status::InvalidArg("this is no memory that another process could not take away");
  }
  StatusOr<LaneMemoryPtr> memory = Map(fd);
  if (memory.ok() && !memory.value()->Reaches(kPage)) return Status::InvalidArg("the memory is smaller than its head");
  return memory;
}

StatusOr<LaneMemoryPtr> LaneMemory::Map(int fd) {
  for (uint64_t window = kLargestLane; window >= kSmallestWindow; window /= 2) {
    void* const base = mmap(nullptr, window, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED) continue;
    madvise(base, window, MADV_DONTDUMP);
    return LaneMemoryPtr(new LaneMemory(fd, static_cast<uint8_t*>(base), window));
  }
  close(fd);
  return Status::Unavailable("no addresses are left for the memory of a worker process");
}

LaneMemory::~LaneMemory() {
  munmap(base_, window_);
  close(fd_);
}

bool LaneMemory::Reaches(uint64_t size) const {
  if (size <= known_.load(std::memory_order_relaxed)) return true;
  struct stat found{};
  if (size > window_ || fstat(fd_, &found) != 0) return false;
  const uint64_t now = std::min(static_cast<uint64_t>(found.st_size), window_);
  known_.store(now, std::memory_order_relaxed);
  return size <= now;
}

Status LaneMemory::GrowTo(uint64_t size) {
  if (Reaches(size)) return Status();
  if (size > window_ || ftruncate(fd_, static_cast<off_t>(size)) != 0) {
    return Status::Unavailable("there is not enough memory to share with the worker process");
  }
  return Status();
}

void LaneMemory::Discard(uint64_t from, uint64_t to) {
  fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(from), static_cast<off_t>(to - from));
}

LaneWriter::LaneWriter(LaneMemoryPtr memory, uint64_t limit)
    : memory_(std::move(memory)), limit_(limit), size_(kFirstSize), touched_(kPage) {}

void LaneWriter::Collect() {
  const auto free = [this](const Block& block) {
    return !block.pinned && (!block.returned || block.returned->load(std::memory_order_acquire)) &&
           ReleasedMark(*memory_, block.offset).load(std::memory_order_acquire) != 0;
  };
  blocks_.erase(std::remove_if(blocks_.begin(), blocks_.end(), free), blocks_.end());
  const uint64_t kept = std::max(kKept, blocks_.empty() ? 0 : (blocks_.back().end + kPage - 1) / kPage * kPage);
  if (touched_ > kept) memory_->Discard(kept, std::exchange(touched_, kept));
}

StatusOr<uint8_t*> LaneWriter::Allocate(uint64_t size, bool pinned) {
  if (size > limit_) return Status::Unavailable("a message is larger than the memory of a worker process");
  Collect();
  const uint64_t needed = kLaneAlignment + LaneAligned(size);
  uint64_t offset = kPage;
  auto next = blocks_.begin();
  for (; next != blocks_.end() && next->offset - offset < needed; ++next) offset = next->end;
  const uint64_t end = offset + needed;
  if (end > limit_) return Status::Unavailable("the memory that is shared with worker processes is full");
  if (end > size_) {
    const uint64_t wanted = std::max(end, std::min(size_ * 2, end + kKept));
    if (Status status = memory_->GrowTo(wanted); !status.ok()) return status;
    size_ = wanted;
  }
  touched_ = std::max(touched_, end);
  blocks_.insert(next, {offset, end, pinned, nullptr, /*reader=*/0});
  ReleasedMark(*memory_, offset).store(0, std::memory_order_relaxed);
  return memory_->base() + offset + kLaneAlignment;
}

LaneWriter::Block* LaneWriter::Find(const uint8_t* message) {
  const auto offset = static_cast<uint64_t>(message - memory_->base()) - kLaneAlignment;
  const auto found = std::lower_bound(blocks_.begin(), blocks_.end(), offset,
                                      [](const Block& block, uint64_t at) { return block.offset < at; });
  return found != blocks_.end() && found->offset == offset ? &*found : nullptr;
}

void LaneWriter::Unpin(const uint8_t* message) { Find(message)->pinned = false; }

bool LaneWriter::HandTo(const uint8_t* message, uint64_t reader) {
  Block* const block = Find(message);
  if (block == nullptr || block->reader != 0) return false;
  block->reader = reader;
  ReleasedMark(*memory_, block->offset).store(0, std::memory_order_relaxed);
  return true;
}

void LaneWriter::TakeBack(const uint8_t* message) {
  Block* const block = Find(message);
  block->reader = 0;
  ReleasedMark(*memory_, block->offset).store(1, std::memory_order_relaxed);
}

void LaneWriter::ForgetReader(uint64_t reader) {
  for (const Block& block : blocks_) {
    if (block.reader == reader) ReleasedMark(*memory_, block.offset).store(1, std::memory_order_relaxed);
  }
}

BufferPtr LaneWriter::Lend(const uint8_t* message) {
  Block& block = *Find(message);
  const auto returned = std::make_shared<std::atomic<bool>>(false);
  block.returned = returned;
  uint8_t* const bytes = memory_->base() + block.offset + kLaneAlignment;
  return std::make_shared<LentBuffer>(memory_, bytes, block.end - block.offset - kLaneAlignment, returned);
}

bool LaneWriter::TrySend(const uint8_t* message, uint64_t size) {
  Head& head = HeadOf(*memory_);
  const uint32_t sent = sent_.load(std::memory_order_relaxed);
  if (!has_room()) return false;
  Entry& entry = head.entries[sent % kRoom];
  entry.offset.store(static_cast<uint64_t>(message - memory_->base()) - kLaneAlignment, std::memory_order_relaxed);
  entry.size.store(size, std::memory_order_relaxed);
  sent_.store(sent + 1, std::memory_order_relaxed);
  Advance(head.written, head.readers_waiting, sent + 1);
  return true;
}

bool LaneWriter::has_room() const {
  const uint32_t read = HeadOf(*memory_).read.load(std::memory_order_acquire);
  return sent_.load(std::memory_order_relaxed) - read < kRoom;
}

void LaneWriter::WaitTaken(TimeNs timeout) {
  Head& head = HeadOf(*memory_);
  const uint32_t read = head.read.load(std::memory_order_acquire);
  if (sent_.load(std::memory_order_relaxed) - read < kRoom) return;
  Sleep(head.read, head.writers_waiting, read, [&] { FutexWait(head.read, read, timeout); });
}

bool LaneWriter::drained() const {
  return HeadOf(*memory_).read.load(std::memory_order_acquire) == sent_.load(std::memory_order_relaxed);
}

StatusOr<std::optional<Slice>> LaneReader::TryTake() {
  Head& head = HeadOf(*memory_);
  const uint32_t taken = taken_.load(std::memory_order_relaxed);
  const uint32_t waiting = head.written.load(std::memory_order_acquire) - taken;
  if (waiting == 0) return {std::optional<Slice>()};
  if (waiting > kRoom) return Status::InvalidArg("more messages than there is room for");
  const Entry& entry = head.entries[taken % kRoom];
  const uint64_t block = entry.offset.load(std::memory_order_relaxed);
  const uint64_t size = entry.size.load(std::memory_order_relaxed);
  if (!IsInside(*memory_, block, size)) return Status::InvalidArg("a message lies outside of the memory");
  taken_.store(taken + 1, std::memory_order_relaxed);
  Advance(head.read, head.writers_waiting, taken + 1);
  return {std::optional<Slice>(Slice(std::make_shared<LaneBuffer>(memory_, block, size, foreign_)))};
}

std::optional<uint64_t> LaneReader::NextSize() const {
  const Head& head = HeadOf(*memory_);
  const uint32_t taken = taken_.load(std::memory_order_relaxed);
  if (head.written.load(std::memory_order_acquire) == taken) return std::nullopt;
  return head.entries[taken % kRoom].size.load(std::memory_order_relaxed);
}

void LaneReader::Wait(TimeNs timeout) {
  Head& head = HeadOf(*memory_);
  const uint32_t taken = taken_.load(std::memory_order_relaxed);
  Sleep(head.written, head.readers_waiting, taken, [&] { FutexWait(head.written, taken, timeout); });
}

void LaneReader::WaitOr(const FutexSeen& other, TimeNs timeout) {
  Head& head = HeadOf(*memory_);
  const uint32_t taken = taken_.load(std::memory_order_relaxed);
  Sleep(head.written, head.readers_waiting, taken, [&] { FutexWaitEither({head.written, taken}, other, timeout); });
}

StatusOr<Slice> TakeBlock(const LaneMemoryPtr& memory, uint64_t offset, uint64_t size) {
  const uint64_t block = offset - kLaneAlignment;
  if (!IsInside(*memory, block, size)) return Status::InvalidArg("a message lies outside of the memory");
  return Slice(std::make_shared<LaneBuffer>(memory, block, size, /*foreign=*/false));
}

void LaneReader::Wake() { FutexWake(HeadOf(*memory_).written); }

}  // namespace pyinfer
