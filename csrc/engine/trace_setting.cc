// SPDX-License-Identifier: Apache-2.0
#include "engine/trace_setting.h"

#include <exception>
#include <utility>

namespace pyinfer {

bool TraceSetting::Sample(bool forced) noexcept {
  if (options_.levels == 0) return false;
  if (options_.rate == 0) return forced;
  int32_t left = left_.load(std::memory_order_relaxed);
  // Once the count is used up, requests are not counted any more.
  if (left == 0) return forced;
  if ((seen_.fetch_add(1, std::memory_order_relaxed) + 1) % options_.rate != 0) return forced;
  while (left > 0 && !left_.compare_exchange_weak(left, left - 1, std::memory_order_relaxed)) {
  }
  return forced || left != 0;
}

void TraceSetting::Collect(TraceRecord record) noexcept {
  const std::shared_ptr<TraceQueue> queue = queue_.lock();
  try {
    if (queue && queue->Push({shared_from_this(), std::move(record)})) return;
  } catch (const std::exception&) {  // no memory
    queue->CountDropped(1);
  }
  dropped_.fetch_add(1, std::memory_order_release);
}

}  // namespace pyinfer
