// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "engine/quantiles.h"

namespace pyinfer {
namespace {

using Values = std::vector<uint32_t>;

// Adds `values` in bursts of `burst`, each sorted as the sketch wants it.
QuantileSketch Sketch(double error, const Values& values, size_t burst) {
  QuantileSketch sketch(error);
  for (size_t begin = 0; begin < values.size(); begin += burst) {
    const auto from = values.begin() + static_cast<std::ptrdiff_t>(begin);
    Values sorted(from, from + static_cast<std::ptrdiff_t>(std::min(burst, values.size() - begin)));
    std::sort(sorted.begin(), sorted.end());
    sketch.Add(sorted);
  }
  return sketch;
}

// The rank of an answer must be within error * n of quantile * n; a value that is there more than once has many.
void CheckBounds(const QuantileSketch& sketch, double error, Values values) {
  std::sort(values.begin(), values.end());
  const auto n = static_cast<double>(values.size());
  CHECK_EQ(sketch.count(), values.size());
  for (const double quantile : {0.0, 0.001, 0.01, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0}) {
    const auto found = static_cast<uint32_t>(sketch.Query(quantile));
    const auto [first, end] = std::equal_range(values.begin(), values.end(), found);
    CHECK(first != end);
    const auto least = static_cast<double>(first - values.begin() + 1);
    const auto most = static_cast<double>(end - values.begin());
    // no value can keep a bound of less than half a rank, nor have a rank of 0
    const double allowed = std::max(error * n, 0.5);
    const double wanted = std::max(quantile * n, 1.0);
    if (least > wanted + allowed || most < wanted - allowed) {
      CHECK_EQ(std::to_string(quantile) + " of " + std::to_string(values.size()),
               std::to_string(least) + " to " + std::to_string(most));
    }
  }
}

// Orders that sketches find hard, among them two that make targeted ones grow without limit.
std::vector<Values> Streams(size_t count) {
  std::mt19937_64 random(count);
  Values ascending(count);
  std::iota(ascending.begin(), ascending.end(), 1000);
  std::vector<Values> streams = {ascending, Values(ascending.rbegin(), ascending.rend()), ascending};
  std::shuffle(streams.back().begin(), streams.back().end(), random);
  Values heavy;
  Values inward;
  Values outward;
  Values few;
  for (size_t i = 0; i < count; ++i) {
    const double uniform = std::uniform_real_distribution<double>(1e-4, 1)(random);
    heavy.push_back(static_cast<uint32_t>(std::pow(uniform, -2)));
    inward.push_back(static_cast<uint32_t>(i % 2 == 0 ? i : 2 * count - i));
    outward.push_back(static_cast<uint32_t>(count + (i % 2 == 0 ? i : count - i)));
    few.push_back(static_cast<uint32_t>(random() % 7));
  }
  streams.insert(streams.end(), {heavy, inward, outward, few, Values(count, 7)});
  return streams;
}

TEST(Quantiles, KeepTheirBounds) {
  for (const size_t count : {1, 2, 3, 5, 10, 100, 999, 30'000}) {
    for (const Values& values : Streams(count)) {
      for (const double error : {0.1, 0.01, 0.001}) {
        for (const size_t burst : {size_t{1}, size_t{1000}}) {
          if (burst == 1 && count > 1000) continue;  // each value compresses all
          CheckBounds(Sketch(error, values, burst), error, values);
        }
      }
    }
  }
}

TEST(Quantiles, AreExactWhileTheyAreFew) {
  const QuantileSketch sketch = Sketch(0.001, {30, 10, 20, 50, 40}, 1);
  CHECK_EQ(sketch.Query(0.5), 30.0);
  CHECK_EQ(sketch.Query(0), 10.0);
  CHECK_EQ(sketch.Query(1), 50.0);
}

TEST(Quantiles, AreExactWhereFewValuesDiffer) {
  for (const Values& values : {Streams(100'000)[6], Streams(100'000)[7]}) {
    const QuantileSketch sketch = Sketch(0.001, values, 1000);
    CHECK(sketch.size() <= 7);
    Values sorted = values;
    std::sort(sorted.begin(), sorted.end());
    for (const double quantile : {0.1, 0.5, 0.9, 0.99}) {
      CHECK_EQ(sketch.Query(quantile),
               static_cast<double>(sorted[static_cast<size_t>(std::lround(quantile * 100'000)) - 1]));
    }
  }
}

TEST(Quantiles, OfNothing) {
  QuantileSketch sketch(0.01);
  CHECK(std::isnan(sketch.Query(0.5)));
  sketch.Add({});
  CHECK(std::isnan(sketch.Query(0.5)));
  sketch.Add({1});
  sketch.Clear();
  CHECK(std::isnan(sketch.Query(0.5)));
}

TEST(Quantiles, NeedLittleMemory) {
  for (const Values& values : Streams(300'000)) CHECK(Sketch(0.001, values, 1000).size() < 6'000);
}

constexpr TimeNs kSecond = 1'000'000'000;

double First(SlidingSummary& summary, TimeNs now) { return summary.Values(now).quantiles.front(); }

TEST(SlidingSummary, ForgetsWhatIsOld) {
  const std::vector<QuantileTarget> targets = {{1.0, 0.1}};
  for (TimeNs observed = 0; observed < 40 * kSecond; observed += kSecond / 4) {
    SlidingSummary summary(targets, 0);
    summary.Observe(7, observed);
    CHECK_EQ(First(summary, observed + 48 * kSecond - 1), 7.0);
    CHECK(std::isnan(First(summary, observed + 60 * kSecond)));
    const SummaryValues values = summary.Values(observed + 1'000 * kSecond);
    CHECK_EQ(values.count, uint64_t{1});
    CHECK_EQ(values.sum, uint64_t{7});
  }
}

TEST(SlidingSummary, ForgetsLittleByLittle) {
  const std::vector<QuantileTarget> targets = {{0.0, 0.1}, {1.0, 0.1}};
  SlidingSummary summary(targets, 0);
  for (uint64_t second = 0; second < 300; ++second) {
    const TimeNs now = static_cast<TimeNs>(second) * kSecond;
    summary.Observe(second, now);
    const std::vector<double> bounds = summary.Values(now).quantiles;
    CHECK(bounds[0] >= static_cast<double>(second) - 60);
    CHECK(bounds[0] <= std::max(0.0, static_cast<double>(second) - 47));
    CHECK_EQ(bounds[1], static_cast<double>(second));
  }
}

TEST(SlidingSummary, TakesValuesOfAnySize) {
  const std::vector<QuantileTarget> targets = {{1.0, 0.1}};
  SlidingSummary summary(targets, 0);
  summary.Observe(uint64_t{1} << 40, 0);
  const SummaryValues values = summary.Values(0);
  CHECK_EQ(values.quantiles.front(), 4294967295.0);
  CHECK_EQ(values.sum, uint64_t{1} << 40);
}

}  // namespace
}  // namespace pyinfer
