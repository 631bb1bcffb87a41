// SPDX-License-Identifier: Apache-2.0
#include "worker/shared_values.h"

#include <atomic>
#include <utility>

namespace pyinfer {
namespace {

static_assert(std::atomic<double>::is_always_lock_free && sizeof(std::atomic<double>) == sizeof(double));

std::atomic<double>& At(const LaneMemory& memory, size_t index) {
  return reinterpret_cast<std::atomic<double>*>(memory.base())[index];
}

}  // namespace

StatusOr<std::shared_ptr<SharedValues>> SharedValues::Create() {
  StatusOr<LaneMemoryPtr> memory = LaneMemory::Create();
  if (!memory.ok()) return memory.status();
  if (Status status = memory.value()->GrowTo(kCount * sizeof(double)); !status.ok()) return status;
  return std::shared_ptr<SharedValues>(new SharedValues(std::move(memory).value()));
}

StatusOr<std::shared_ptr<SharedValues>> SharedValues::Adopt(int fd) {
  StatusOr<LaneMemoryPtr> memory = LaneMemory::Adopt(fd);
  if (!memory.ok()) return memory.status();
  if (!memory.value()->Reaches(kCount * sizeof(double))) return Status::InvalidArg("the memory has not all numbers");
  return std::shared_ptr<SharedValues>(new SharedValues(std::move(memory).value()));
}

double SharedValues::Get(size_t index) const { return At(*memory_, index).load(std::memory_order_relaxed); }

void SharedValues::Set(size_t index, double value) { At(*memory_, index).store(value, std::memory_order_relaxed); }

void SharedValues::Add(size_t index, double amount) {
  std::atomic<double>& value = At(*memory_, index);
  double seen = value.load(std::memory_order_relaxed);
  while (!value.compare_exchange_weak(seen, seen + amount, std::memory_order_relaxed)) {
  }
}

}  // namespace pyinfer
