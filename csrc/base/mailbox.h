// SPDX-License-Identifier: Apache-2.0
// mailbox.h - many threads post, one event loop collects; one wake-up for a burst.
#pragma once

#include <mutex>
#include <utility>
#include <vector>

namespace pyinfer {

// The descriptor of an eventfd that is readable while it has been raised and not lowered.
class WakeUp {
 public:
  WakeUp();
  ~WakeUp();
  WakeUp(const WakeUp&) = delete;
  WakeUp& operator=(const WakeUp&) = delete;

  int fd() const { return fd_; }
  void Raise();
  void Lower();

 private:
  int fd_;
};

// Post: any thread. The others: the collecting thread.
template <typename T>
class MailQueue {
 public:
  // Wakes the collector unless it is awake already or has been woken since it last collected.
  void Post(T item) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return;
    items_.push_back(std::move(item));
    if (raised_ || collecting_) return;
    raised_ = true;
    // With the lock held: raised after a Collect that has seen raised_, it would stay up and the loop would spin.
    wake_.Raise();
  }

  // Everything posted so far, in order.
  std::vector<T> Collect() {
    std::vector<T> items;
    std::lock_guard<std::mutex> lock(mutex_);
    items.swap(items_);
    if (std::exchange(raised_, false)) wake_.Lower();
    return items;
  }

  // While set, posts do not raise the descriptor: the collector promises to call Collect before it sleeps.
  void set_collecting(bool collecting) {
    std::lock_guard<std::mutex> lock(mutex_);
    collecting_ = collecting;
  }

  // Later posts are dropped.
  void Close() {
    std::vector<T> dropped;
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    dropped.swap(items_);
  }

  int fd() const { return wake_.fd(); }

 private:
  std::mutex mutex_;
  std::vector<T> items_;
  bool raised_ = false;
  bool collecting_ = false;
  bool closed_ = false;
  WakeUp wake_;
};

}  // namespace pyinfer
