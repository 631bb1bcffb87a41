// SPDX-License-Identifier: Apache-2.0
// lending.h - instances that a thread may run itself, which calls their model and waits, while their own threads rest.
//
// To hand a batch to another thread and to wait for it costs two wake-ups, which is more than a small execution. Where
// an instance does not mind which thread executes, and its own has nothing to do, a caller takes its place for one
// batch. An instance is in one of three hands: its thread's, nobody's (its thread waits for a batch), a borrower's.
// What the queue has is taken in its order, whoever takes it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "sched/batch.h"

namespace pyinfer {

// What an instance does with a batch, on whichever thread. One batch at a time.
class BatchRunner {
 public:
  virtual ~BatchRunner() = default;
  // Executes the batch and finishes it. Called without the interpreter's lock, other locks, or an open Burst.
  virtual void Run(Batch batch) = 0;
};

// The instances of one model that can be lent. Any thread; it is never locked while a batch is executed.
class InstanceLending {
 public:
  // Whether there are any.
  bool offers() const { return offers_.load(std::memory_order_acquire); }

  // The thread of `instance` will call Rest and Resume around each wait for a batch. `runner` is not called after
  // Withdraw.
  void Offer(size_t instance, BatchRunner* runner);
  // Requires: its thread has it, or it was not offered.
  void Withdraw(size_t instance);

  // The following do nothing for one that was not offered. Its thread has nothing to do: from now on it may be lent.
  void Rest(size_t instance);
  // Whether its thread has it again. Where it is lent, not, and the thread is to see to it that somebody else is woken
  // for what it was woken for; then to call Await.
  bool Resume(size_t instance);
  // The same, but waits until it is back.
  void Await(size_t instance);

  // One that nobody has; null where there is none.
  struct Lent {
    size_t instance = 0;
    BatchRunner* runner = nullptr;

    explicit operator bool() const { return runner != nullptr; }
  };
  Lent Borrow();
  void GiveBack(const Lent& lent);

 private:
  enum class Hands { kOwn, kNone, kBorrower };
  struct Entry {
    size_t instance;
    BatchRunner* runner;
    Hands hands;
  };

  Entry* FindLocked(size_t instance);

  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<Entry> entries_;
  std::atomic<bool> offers_{false};
};

}  // namespace pyinfer
