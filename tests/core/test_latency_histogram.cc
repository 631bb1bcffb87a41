// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "check.h"
#include "load/latency_histogram.h"

namespace pyinfer {
namespace {

constexpr double kPercents[] = {0, 1, 50, 90, 95, 99, 99.9, 99.99, 100};

std::vector<TimeNs> Durations(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::lognormal_distribution<double> spread(13, 2.5);
  std::vector<TimeNs> durations;
  for (size_t i = 0; i < count; ++i) durations.push_back(static_cast<TimeNs>(spread(random)));
  return durations;
}

TimeNs Exact(const std::vector<TimeNs>& ascending, double percent) {
  const double rank = std::ceil(percent / 100 * static_cast<double>(ascending.size()) - 1e-9);
  return ascending[static_cast<size_t>(std::max(1.0, rank)) - 1];
}

bool Near(TimeNs a, TimeNs b, double share) {
  return std::abs(static_cast<double>(a - b)) <= share * static_cast<double>(b) + 1;
}

TEST(LatencyHistogram, PercentilesAreWithinHalfAPercent) {
  for (const size_t count : {1u, 2u, 1000u, 100'000u}) {
    std::vector<TimeNs> durations = Durations(count, count);
    LatencyHistogram histogram;
    for (const TimeNs duration : durations) histogram.Record(duration);
    std::sort(durations.begin(), durations.end());
    CHECK_EQ(histogram.count(), count);
    CHECK_EQ(histogram.min(), durations.front());
    CHECK_EQ(histogram.max(), durations.back());
    for (const double percent : kPercents) {
      CHECK(Near(histogram.Percentile(percent), Exact(durations, percent), 0.004));
    }
  }
}

TEST(LatencyHistogram, EveryPowerOfTwoHasItsRange) {
  for (int bit = 0; bit < 42; ++bit) {
    for (const TimeNs offset : {TimeNs{-1}, TimeNs{0}, TimeNs{1}}) {
      const TimeNs value = std::clamp((TimeNs{1} << bit) + offset, TimeNs{0}, LatencyHistogram::kLongest);
      LatencyHistogram histogram;
      histogram.Record(0);
      histogram.Record(value, 2);
      histogram.Record(LatencyHistogram::kLongest);
      CHECK(Near(histogram.Percentile(75), value, 0.004));
    }
  }
}

TEST(LatencyHistogram, WhatIsOutOfRangeIsCountedAtItsEnds) {
  LatencyHistogram histogram;
  histogram.Record(-5);
  histogram.Record(INT64_MAX);
  CHECK_EQ(histogram.min(), 0);
  CHECK_EQ(histogram.max(), LatencyHistogram::kLongest);
}

TEST(LatencyHistogram, MergedIsWhatOneWouldBe) {
  LatencyHistogram parts[3], whole;
  const std::vector<TimeNs> durations = Durations(3000, 7);
  for (size_t i = 0; i < durations.size(); ++i) {
    parts[i % 3].Record(durations[i]);
    whole.Record(durations[i]);
  }
  LatencyHistogram merged;
  for (const LatencyHistogram& part : parts) merged.Merge(part);
  CHECK(merged.Ranges() == whole.Ranges());
  CHECK_EQ(merged.min(), whole.min());
  CHECK_EQ(merged.max(), whole.max());
  CHECK(std::abs(merged.mean() / whole.mean() - 1) < 1e-9);
  CHECK(std::abs(merged.deviation() / whole.deviation() - 1) < 1e-9);
}

TEST(LatencyHistogram, OfNothingIsZero) {
  const LatencyHistogram histogram;
  CHECK_EQ(histogram.Percentile(99), 0);
  CHECK_EQ(histogram.min(), 0);
  CHECK(histogram.mean() == 0 && histogram.deviation() == 0);
  CHECK(histogram.Ranges().empty());
  CHECK_EQ(histogram.Corrected(1000).count(), 0u);
}

TEST(LatencyHistogram, CorrectionAddsTheRequestsThatWereNotSent) {
  LatencyHistogram histogram;
  histogram.Record(1'000'000, 99);
  histogram.Record(100'000'000);
  const LatencyHistogram corrected = histogram.Corrected(1'000'000);
  // one each millisecond of the longest, which waited for 99, 98, ... 1 ms; where the middle of its range is below it,
  // the last one is not there
  CHECK(corrected.count() == 198 || corrected.count() == 199);
  CHECK(Near(corrected.Percentile(100.0 * (199 - 50) / 199), 50'000'000, 0.03));
  CHECK_EQ(corrected.max(), histogram.max());
  // nothing is above an interval that is long
  CHECK(histogram.Corrected(200'000'000).Ranges() == histogram.Ranges());
}

}  // namespace
}  // namespace pyinfer
