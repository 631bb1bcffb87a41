// SPDX-License-Identifier: Apache-2.0
// pacer.h - when the requests of an open loop are to be sent. Pure: time is a number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/clock.h"

namespace pyinfer {

// Offsets from the start of the load, in nanoseconds.
struct Schedule {
  enum class Kind {
    kConstant,   // one each 1 / rate seconds
    kPoisson,    // independent of each other, `rate` a second on average
    kIntervals,  // `times` are the gaps between requests, over and over
    kOnce,       // `times` are the offsets, ascending; then nothing
  };
  Kind kind = Kind::kConstant;
  double rate = 1;  // a second, above 0
  uint64_t seed = 0;
  std::vector<TimeNs> times;
  // With a rate: so many requests are due at the same time, as much more seldom. At least one.
  uint32_t burst = 1;
};

// One of `of` workers that share a schedule: takes each `of`-th of its times, from the one of number `first` on. What
// all of them take together is the schedule, for every kind.
class Pacer {
 public:
  Pacer(std::shared_ptr<const Schedule> schedule, TimeNs start, size_t first, size_t of);

  // There is nothing left to send.
  bool done() const { return done_; }
  // When the next request is to be sent. Requires: not done().
  TimeNs next() const { return next_; }
  void Pop();
  // How many are due at `now`; stops counting at `most`.
  uint64_t Due(TimeNs now, uint64_t most) const;

 private:
  void Advance();

  std::shared_ptr<const Schedule> schedule_;
  TimeNs start_;
  size_t stride_;
  uint64_t index_ = 0;   // of the time in next_
  double elapsed_ = 0;   // of a Poisson process, seconds
  TimeNs base_ = 0;      // of intervals: the offset of next_
  uint64_t random_ = 0;  // state of the generator
  TimeNs next_ = 0;
  bool done_ = false;
};

}  // namespace pyinfer
