// SPDX-License-Identifier: Apache-2.0
// lending.h - instances that another thread may do something for, while their own threads have nothing to do.
//
// To hand a batch to another thread and to wait for it costs two wake-ups, which is more than a small execution. Where
// an instance does not mind which thread executes, a caller that waits takes its place for one batch. Where executing
// is another process' work, whoever brings the requests can hand them to it: that does not wait then for the
// instance's thread, which does the rest.
//
// An instance is in one of three hands: its thread's, nobody's (its thread waits for a batch), a borrower's. What the
// queue has is taken in its order, whoever takes it. Its thread waits for a batch at the queue, or it watches what
// executes: then it learns of batches that were begun by their answers, and of all else only by being woken. Where
// others hear that a batch which was begun has its answer, its thread has only to look now and then.
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

// Who learns that a batch which others have begun is answered, to complete it: nobody before it is woken; the thread of
// the instance, which watches; or whoever hears the doorbell, and asks all that were begun (Model::TakeAnswers).
enum class HeardBy { kNobody, kWatcher, kDoorbell };

// What begins a batch for the thread of an instance.
class BatchStarter {
 public:
  virtual ~BatchStarter() = default;
  // Keeps the batch, which the instance's thread goes on with, and begins it if that takes no time. Never blocks.
  // Called under no lock, from any thread, while the instance's thread has nothing to do.
  virtual HeardBy Begin(Batch batch) = 0;
  // Completes the batch that was begun, if it has its answer and that takes no time: kLeft where it is for the thread
  // of the instance. Called as Begin is, of what is heard by the doorbell.
  enum class Progress { kNone, kCompleted, kLeft };
  virtual Progress TryComplete() { return Progress::kLeft; }
  // For the instance's thread: whether it may watch now. If so, Wake counts from here on, and Watch follows. Called
  // while nobody is in Begin or TryComplete.
  virtual bool PrepareWatch() { return false; }
  // The same, to go on: not where Wake was called since.
  virtual bool KeepWatching() { return false; }
  // Blocks until there is something to see, Wake was called, or it is time to look for other work. Whether batches were
  // completed by others meanwhile.
  virtual bool Watch() { return false; }
  // Never blocks. Any thread.
  virtual void Wake() {}
};

// The instances of one model that can be lent. Any thread; it is never locked while a batch is executed.
class InstanceLending {
 public:
  // Whether there are any, and any of each kind.
  bool offers() const { return offers_runners() || offers_starters(); }
  bool offers_runners() const { return runners_.load(std::memory_order_acquire) != 0; }
  bool offers_starters() const { return starters_.load(std::memory_order_acquire) != 0; }

  // The thread of `instance` will call Rest and Resume around each wait for a batch. `runner`, or `starter`, is not
  // called after Withdraw.
  void Offer(size_t instance, BatchRunner* runner);
  void Offer(size_t instance, BatchStarter* starter);
  // Requires: its thread has it, or it was not offered.
  void Withdraw(size_t instance);

  // The following do nothing for one that was not offered. Its thread has nothing to do: from now on it may be lent.
  void Rest(size_t instance);
  // The same, where its thread can watch; null, and it may not be lent, where not.
  BatchStarter* RestToWatch(size_t instance);
  // The same, of a batch that was begun meanwhile: others will complete it when the doorbell is heard.
  BatchStarter* WatchBegun(size_t instance);
  // Goes on to watch, of an instance that still is at rest or has such a batch; false where not.
  bool KeepWatching(size_t instance);
  // Whether its thread has it again, and whether with a batch that was begun. Where it is still lent, the thread is to
  // call Await. Unless it is as it was, the thread is to see to it that somebody else is woken for what it may have
  // been woken for itself.
  enum class Back { kLent, kAsItWas, kBegun };
  Back Resume(size_t instance);
  // The same, but waits until it is back.
  Back Await(size_t instance);

  // One that nobody has; null where there is none.
  struct Lent {
    size_t instance = 0;
    BatchRunner* runner = nullptr;
    BatchStarter* starter = nullptr;

    explicit operator bool() const { return runner != nullptr || starter != nullptr; }
  };
  // One that has a runner, or one that has a starter.
  Lent Borrow();
  Lent BorrowToBegin();
  // Of those whose batch is heard by the doorbell, the first one from `least` on.
  Lent BorrowBegun(size_t least);
  void GiveBack(const Lent& lent);
  // The starter has a batch. Whether the thread is to be woken at the queue.
  bool GiveBackBegun(const Lent& lent, HeardBy heard);
  // There is work that was not begun: those who watch are to look at the queue.
  void WakeWatching();

 private:
  enum class Hands { kOwn, kNone, kBorrower, kBegun };
  struct Entry {
    Lent lent;
    Hands hands;
    bool watches = false;
    bool rings = false;  // the doorbell is heard when what was begun is answered
  };

  void Add(Lent lent);
  Entry* FindLocked(size_t instance);
  Lent BorrowLocked(bool to_begin);
  static Back TakeLocked(Entry& entry);

  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<Entry> entries_;
  std::atomic<size_t> runners_{0};
  std::atomic<size_t> starters_{0};
};

}  // namespace pyinfer
