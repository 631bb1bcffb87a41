// SPDX-License-Identifier: Apache-2.0
#include "load/latency_histogram.h"

#include <algorithm>
#include <cmath>

namespace pyinfer {

size_t LatencyHistogram::RangeOf(TimeNs duration) {
  const auto value = static_cast<uint64_t>(duration);
  if (value < 2 * kHalf) return value;
  const int shift = 63 - __builtin_clzll(value) - kBits;
  return static_cast<size_t>(shift) * kHalf + (value >> shift);
}

TimeNs LatencyHistogram::FirstOf(size_t range) {
  if (range < 2 * kHalf) return static_cast<TimeNs>(range);
  const size_t shift = range / kHalf - 1;
  return static_cast<TimeNs>((range - shift * kHalf) << shift);
}

TimeNs LatencyHistogram::ValueOf(size_t range) const {
  return std::clamp((FirstOf(range) + FirstOf(range + 1)) / 2, min_, max_);
}

void LatencyHistogram::Record(TimeNs duration, uint64_t count) {
  duration = std::clamp(duration, TimeNs{0}, kLongest);
  counts_[RangeOf(duration)] += count;
  count_ += count;
  min_ = std::min(min_, duration);
  max_ = std::max(max_, duration);
  const auto value = static_cast<double>(duration);
  sum_ += value * static_cast<double>(count);
  squares_ += value * value * static_cast<double>(count);
}

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  for (size_t range = 0; range < kRanges; ++range) counts_[range] += other.counts_[range];
  count_ += other.count_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
  squares_ += other.squares_;
}

double LatencyHistogram::deviation() const {
  if (count_ == 0) return 0;
  const double average = mean();
  return std::sqrt(std::max(0.0, squares_ / static_cast<double>(count_) - average * average));
}

TimeNs LatencyHistogram::Percentile(double percent) const {
  if (count_ == 0) return 0;
  const double share = std::clamp(percent, 0.0, 100.0) / 100;
  // 99.9 % of 1000 is not quite 999 in binary
  const double rank = std::ceil(share * static_cast<double>(count_) * (1 - 1e-12));
  const uint64_t wanted = std::max<uint64_t>(1, static_cast<uint64_t>(rank));
  uint64_t seen = 0;
  for (size_t range = 0; range < kRanges; ++range) {
    seen += counts_[range];
    if (seen >= wanted) return ValueOf(range);
  }
  return max_;
}

LatencyHistogram LatencyHistogram::Corrected(TimeNs interval) const {
  LatencyHistogram corrected = *this;
  // More steps than that for one duration would tell nothing new.
  interval = std::max({TimeNs{1}, interval, max_ / 10'000});
  for (size_t range = 0; range < kRanges; ++range) {
    if (counts_[range] == 0) continue;
    for (TimeNs missing = ValueOf(range) - interval; missing >= interval; missing -= interval) {
      corrected.Record(missing, counts_[range]);
    }
  }
  return corrected;
}

std::vector<std::pair<TimeNs, uint64_t>> LatencyHistogram::Ranges() const {
  std::vector<std::pair<TimeNs, uint64_t>> ranges;
  for (size_t range = 0; range < kRanges; ++range) {
    if (counts_[range] != 0) ranges.emplace_back(std::min(FirstOf(range + 1) - 1, max_), counts_[range]);
  }
  return ranges;
}

}  // namespace pyinfer
