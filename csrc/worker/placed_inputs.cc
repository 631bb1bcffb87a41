// SPDX-License-Identifier: Apache-2.0
#include "worker/placed_inputs.h"

#include <utility>

namespace pyinfer {
namespace {

constexpr uint64_t kMost = uint64_t{4} << 30;

}  // namespace

StatusOr<std::shared_ptr<PlacedInputs>> PlacedInputs::Create() {
  StatusOr<LaneMemoryPtr> memory = LaneMemory::Create();
  if (!memory.ok()) return memory.status();
  return {std::shared_ptr<PlacedInputs>(new PlacedInputs(std::move(memory).value()))};
}

PlacedInputs::PlacedInputs(LaneMemoryPtr memory) : memory_(std::move(memory)), writer_(memory_, kMost) {}

BufferPtr PlacedInputs::Allocate(size_t size) {
  std::lock_guard<std::mutex> lock(mutex_);
  const StatusOr<uint8_t*> input = writer_.Allocate(size);
  if (!input.ok()) return nullptr;
  writer_.TakeBack(input.value());
  return writer_.Lend(input.value());
}

std::optional<uint64_t> PlacedInputs::OffsetOf(std::string_view bytes) const {
  const auto at = reinterpret_cast<uintptr_t>(bytes.data());
  const auto base = reinterpret_cast<uintptr_t>(memory_->base());
  if (at < base || at - base >= kMost) return std::nullopt;
  return at - base;
}

std::optional<uint64_t> PlacedInputs::Hand(const Slice& bytes, uint64_t worker) {
  const auto offset = OffsetOf(bytes.view());
  if (!offset) return std::nullopt;
  std::lock_guard<std::mutex> lock(mutex_);
  return writer_.HandTo(bytes.data(), worker) ? offset : std::nullopt;
}

void PlacedInputs::TakeBack(const Slice& bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  writer_.TakeBack(bytes.data());
}

void PlacedInputs::Forget(uint64_t worker) {
  std::lock_guard<std::mutex> lock(mutex_);
  writer_.ForgetReader(worker);
}

}  // namespace pyinfer
