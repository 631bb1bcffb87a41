// SPDX-License-Identifier: Apache-2.0
// rules.h - what a queue has to do, written for a reader and not for speed, and apart from the scheduler's own code.
//
// A Rules object is told of each event that the real queue is told of, and says what must come of it.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "infer/model_spec.h"

namespace pyinfer::simulation {

using Time = int64_t;  // ns

// A request as it was sent.
struct Asked {
  int number = 0;
  uint64_t priority = 0;
  int64_t rows = 1;
  int64_t width = 1;
  bool more = false;  // has the optional input
  int32_t value = 0;  // of each element
  uint64_t timeout_us = 0;
  uint64_t sequence = 0;
  bool start = false;
  bool end = false;
  Time at = 0;
};

// How a request ends that no instance runs.
enum class End { kNone, kFull, kClosed, kNoStart, kCancelled, kTimeout, kSequenceTimeout, kUnloaded };

struct Ended {
  int number = 0;
  End end = End::kNone;
};

inline constexpr int kEmptyRow = -1;

class Rules {
 public:
  virtual ~Rules() = default;

  virtual void AddInstance(Time now) = 0;
  virtual void RemoveInstance(size_t instance) = 0;
  // kNone where it is to wait.
  virtual End Push(const Asked& asked) = 0;
  // Nobody waits for it any more; nothing looks at it yet.
  virtual void Cancel(int number) = 0;
  // An instance looks whether there is something to take.
  virtual void Look(Time) {}
  // The rows of the batch, by the numbers of their requests.
  virtual std::vector<int> Take(size_t instance, Time now) = 0;
  // As RipeAt of a BatchSource; nothing where it is not promised, as there are requests that a look would remove.
  virtual std::optional<Time> RipeAt(size_t instance, Time now) const = 0;
  // Of an iterative model: what was executed comes back to be executed once more, or its executor is done with it.
  virtual void Return(int, Time) {}
  virtual void Release(int, Time) {}
  virtual void Expire(Time now) = 0;
  virtual void Reap(Time now) = 0;
  virtual void Close() = 0;
  virtual void FailAll() = 0;
  virtual size_t waiting() const = 0;
  // Cancelled, and left to whichever look finds it first.
  virtual std::vector<int> lazy() const { return {}; }
  // One of those was found.
  virtual void Found(int) {}
  // Which sequence a request that was not refused belongs to; the same for all of one sequence alone.
  virtual int SequenceOf(int) const { return 0; }
  // An instance that is removed has nothing left to do.
  virtual bool Leaves(size_t instance) const = 0;

  // What ended since the last call.
  std::vector<Ended> TakeEnded() { return std::exchange(ended_, {}); }

 protected:
  void Note(int number, End end) { ended_.push_back({number, end}); }

 private:
  std::vector<Ended> ended_;
};

std::unique_ptr<Rules> MakeDynamicRules(const ModelSpec& spec);
std::unique_ptr<Rules> MakeSequenceRules(const ModelSpec& spec);

// The request as far as it matters to whom it may share a batch with: of a ragged input the width does not.
Asked ForBatching(Asked asked, const ModelSpec& spec);

// What a batch is made of and when, of requests in the order in which they are to run: how many go now (0: none), or
// when they do (nothing: never, as there are none).
struct Ripe {
  size_t count = 0;
  std::optional<Time> at;
};
Ripe RipeBatch(const std::vector<Asked>& line, const BatchOptions& options, bool closed, Time now);

}  // namespace pyinfer::simulation
