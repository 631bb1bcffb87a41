// SPDX-License-Identifier: Apache-2.0
#include "engine/trace_queue.h"

#include <utility>

namespace pyinfer {

bool TraceQueue::Push(CollectedTrace trace) {
  const size_t size = trace.record.size();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ++counts_.collected;
    if (closed_ || traces_.size() >= limits_.traces || bytes_ + size > limits_.bytes) {
      ++counts_.dropped;
      return false;
    }
    bytes_ += size;
    traces_.push_back(std::move(trace));
    // The consumer takes all that is there: it is woken for the first.
    if (traces_.size() > 1) return true;
  }
  ready_.notify_one();
  return true;
}

void TraceQueue::Poke() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    poked_ = true;
  }
  ready_.notify_one();
}

std::vector<CollectedTrace> TraceQueue::Take(std::chrono::milliseconds timeout) {
  std::unique_lock<std::mutex> lock(mutex_);
  ready_.wait_for(lock, timeout, [this] { return !traces_.empty() || poked_ || closed_; });
  poked_ = false;
  bytes_ = 0;
  return std::exchange(traces_, {});
}

void TraceQueue::Close() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
  }
  ready_.notify_all();
}

bool TraceQueue::closed() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return closed_;
}

void TraceQueue::CountDropped(uint64_t count) {
  std::lock_guard<std::mutex> lock(mutex_);
  counts_.dropped += count;
}

TraceQueue::Counts TraceQueue::counts() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return counts_;
}

}  // namespace pyinfer
