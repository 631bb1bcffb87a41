// SPDX-License-Identifier: Apache-2.0
// histogram.h - counts of values by ranges whose upper ends are included. One thread at a time.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace pyinfer {

// `Bounds::kUpper` is an ascending array of the ranges' upper ends; what is above the last one has a range of its own.
template <typename Bounds>
class Histogram {
 public:
  static constexpr size_t kRanges = Bounds::kUpper.size() + 1;

  void Add(int64_t value) {
    const auto range = std::lower_bound(Bounds::kUpper.begin(), Bounds::kUpper.end(), value);
    ++counts_[static_cast<size_t>(range - Bounds::kUpper.begin())];
  }
  // By range; not cumulated.
  const std::array<uint64_t, kRanges>& counts() const { return counts_; }

 private:
  std::array<uint64_t, kRanges> counts_{};
};

// Nanoseconds, from 10 us to 50 s in steps of 1, 2 and 5.
struct DurationBounds {
  static constexpr int64_t kUs = 1000;
  static constexpr int64_t kMs = 1000 * kUs;
  static constexpr int64_t kS = 1000 * kMs;
  static constexpr std::array<int64_t, 21> kUpper = {
      10 * kUs, 20 * kUs,  50 * kUs,  100 * kUs, 200 * kUs, 500 * kUs, 1 * kMs, 2 * kMs, 5 * kMs, 10 * kMs, 20 * kMs,
      50 * kMs, 100 * kMs, 200 * kMs, 500 * kMs, 1 * kS,    2 * kS,    5 * kS,  10 * kS, 20 * kS, 50 * kS};
};

// Rows.
struct BatchBounds {
  static constexpr std::array<int64_t, 11> kUpper = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024};
};

// Of durations, with bounds that a configuration gives.
class ConfiguredHistogram {
 public:
  // `bounds_ms` ascend.
  explicit ConfiguredHistogram(const std::vector<double>& bounds_ms) : counts_(bounds_ms.size() + 1) {
    for (const double bound : bounds_ms) upper_.push_back(bound * 1e6);
  }

  void Add(int64_t ns) {
    const auto range = std::lower_bound(upper_.begin(), upper_.end(), static_cast<double>(ns));
    ++counts_[static_cast<size_t>(range - upper_.begin())];
    sum_ns_ += ns;
  }
  const std::vector<uint64_t>& counts() const { return counts_; }
  int64_t sum_ns() const { return sum_ns_; }

 private:
  std::vector<double> upper_;
  std::vector<uint64_t> counts_;
  int64_t sum_ns_ = 0;
};

}  // namespace pyinfer
