// SPDX-License-Identifier: Apache-2.0
// quantiles.h - quantiles of a stream of durations, with a bound on their error and on memory.
//
// QuantileSketch keeps a sorted sample of its values, each with the range of ranks that it may have (Greenwald and
// Khanna 2001): for any q it answers with a value whose rank among the n values is within error * n of q * n, in
// whatever order they came. SlidingSummary answers for the last minute, as the summaries of Triton do.
//
// Both: one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "infer/model_spec.h"

namespace pyinfer {

class QuantileSketch {
 public:
  // `error` is a share of all values, above 0.
  explicit QuantileSketch(double error) : error_(error) {}

  // Takes values in ascending order.
  void Add(const std::vector<uint32_t>& ascending);
  // The value at `quantile` (0 to 1), NaN where there is none.
  double Query(double quantile) const;
  void Clear();

  uint64_t count() const { return count_; }
  // Of what is kept: what memory depends on.
  size_t size() const { return kept_.size(); }

 private:
  // A value that came `same` times, of which the first has a rank of at least the ranks before + `below` + 1, and at
  // most `spread` more. `below` values that are not kept lie between the one before and this one.
  struct Kept {
    uint32_t value;
    uint32_t below;
    uint32_t same;
    uint32_t spread;

    // How far the rank of the first may be from that of the last of the value before; this bounds the error.
    uint64_t gap() const { return uint64_t{below} + 1 + spread; }
  };

  void Merge(const std::vector<uint32_t>& ascending);
  void Compress();

  double error_;
  uint64_t count_ = 0;
  std::vector<Kept> kept_;    // ascending, each value once
  std::vector<Kept> merged_;  // kept for its memory
};

// A snapshot. Durations in microseconds.
struct SummaryValues {
  uint64_t count = 0;  // of all time
  uint64_t sum = 0;    // of all time
  std::vector<double> quantiles;
};

// Counts for ever, and knows the quantiles of what came within the last 48 to 60 seconds: there are five windows of
// 60 s, which start 12 s apart, and the oldest answers.
class SlidingSummary {
 public:
  static constexpr TimeNs kMaxAge = 60'000'000'000;
  static constexpr size_t kWindows = 5;

  // `targets` must outlive the summary and not be empty; the least of their errors holds for all.
  SlidingSummary(const std::vector<QuantileTarget>& targets, TimeNs now);

  void Observe(uint64_t value, TimeNs now);
  SummaryValues Values(TimeNs now);

 private:
  void Turn(TimeNs now);
  void Settle();

  const std::vector<QuantileTarget>* targets_;
  std::vector<QuantileSketch> windows_;
  size_t oldest_ = 0;
  TimeNs turned_;
  std::vector<uint32_t> waiting_;  // values that are in no window yet
  uint64_t count_ = 0;
  uint64_t sum_ = 0;
};

}  // namespace pyinfer
