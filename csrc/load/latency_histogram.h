// SPDX-License-Identifier: Apache-2.0
// latency_histogram.h - durations of a load test, counted by ranges that are narrow everywhere.
//
// Ranges are log-linear, as those of HdrHistogram: each is at most 1/128 of its values wide, and the middle of a range
// stands for it, so that a percentile is within 0.4 % of the value with that rank. Histograms add up exactly: those of
// several threads or windows, merged, are what one histogram of all values would be. One thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace pyinfer {

class LatencyHistogram {
 public:
  // Longer durations count as this one, 73 minutes; negative ones as 0.
  static constexpr TimeNs kLongest = (TimeNs{1} << 42) - 1;

  void Record(TimeNs duration, uint64_t count = 1);
  void Merge(const LatencyHistogram& other);
  void Clear() { *this = LatencyHistogram(); }

  uint64_t count() const { return count_; }
  // Exact, all of them; 0 where there is nothing.
  TimeNs min() const { return count_ == 0 ? 0 : min_; }
  TimeNs max() const { return max_; }
  double mean() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }
  double deviation() const;

  // The value with rank ceil(percent / 100 * count), 0 where there is nothing.
  TimeNs Percentile(double percent) const;

  // What a client would have seen that sends a request every `interval`, whatever comes back: for each duration above
  // it, also those of the requests that would have been sent meanwhile and had to wait for the rest of it.
  LatencyHistogram Corrected(TimeNs interval) const;

  // (longest duration of the range, how many) of the ranges that hold something, ascending.
  std::vector<std::pair<TimeNs, uint64_t>> Ranges() const;

 private:
  static constexpr int kBits = 7;
  static constexpr size_t kHalf = size_t{1} << kBits;
  static constexpr size_t kRanges = (42 - kBits - 1) * kHalf + 2 * kHalf;

  static size_t RangeOf(TimeNs duration);
  static TimeNs FirstOf(size_t range);
  TimeNs ValueOf(size_t range) const;

  std::array<uint64_t, kRanges> counts_{};
  uint64_t count_ = 0;
  TimeNs min_ = kLongest;
  TimeNs max_ = 0;
  double sum_ = 0;
  double squares_ = 0;
};

}  // namespace pyinfer
