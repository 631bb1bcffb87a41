// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <vector>

#include "check.h"
#include "load/pacer.h"

namespace pyinfer {
namespace {

constexpr TimeNs kStart = 5'000'000'000;

std::shared_ptr<const Schedule> Make(Schedule::Kind kind, double rate, std::vector<TimeNs> times = {}) {
  return std::make_shared<const Schedule>(Schedule{kind, rate, 42, std::move(times)});
}

std::vector<TimeNs> TimesOf(const std::shared_ptr<const Schedule>& schedule, size_t workers, TimeNs until) {
  std::vector<TimeNs> times;
  for (size_t worker = 0; worker < workers; ++worker) {
    for (Pacer pacer(schedule, kStart, worker, workers); !pacer.done() && pacer.next() < until; pacer.Pop()) {
      times.push_back(pacer.next());
    }
  }
  std::sort(times.begin(), times.end());
  return times;
}

TEST(Pacer, ConstantRateDoesNotDrift) {
  const auto times = TimesOf(Make(Schedule::Kind::kConstant, 3), 1, kStart + 3'000'000'000'000);
  CHECK_EQ(times.size(), 9000u);
  CHECK_EQ(times[3000], kStart + 1'000'000'000'000);
  CHECK_EQ(times[1], kStart + 333'333'333);
}

TEST(Pacer, PoissonProcessHasItsRateAndItsSpread) {
  const auto times = TimesOf(Make(Schedule::Kind::kPoisson, 1000), 1, kStart + 100'000'000'000);
  const auto count = static_cast<double>(times.size());
  CHECK(std::abs(count - 100'000) < 4 * std::sqrt(100'000));
  double sum = 0, squares = 0;
  for (size_t i = 1; i < times.size(); ++i) {
    const auto gap = static_cast<double>(times[i] - times[i - 1]);
    sum += gap;
    squares += gap * gap;
  }
  // mean and deviation of an exponential distribution are the same
  const double mean = sum / (count - 1);
  CHECK(std::abs(std::sqrt(squares / (count - 1) - mean * mean) / mean - 1) < 0.02);
}

TEST(Pacer, WorkersTogetherFollowTheSchedule) {
  const std::vector<TimeNs> gaps = {1'000'000, 0, 7'000'000};
  const std::vector<TimeNs> once = {0, 5, 5, 90'000'000, 100'000'000};
  for (const auto& schedule : {Make(Schedule::Kind::kConstant, 777), Make(Schedule::Kind::kPoisson, 777),
                               Make(Schedule::Kind::kIntervals, 1, gaps), Make(Schedule::Kind::kOnce, 1, once)}) {
    const auto alone = TimesOf(schedule, 1, kStart + 1'000'000'000);
    for (const size_t workers : {2u, 3u, 8u}) CHECK(TimesOf(schedule, workers, kStart + 1'000'000'000) == alone);
  }
}

TEST(Pacer, BurstsHaveTheSameRate) {
  Schedule constant{Schedule::Kind::kConstant, 1000, 42, {}, 10};
  const auto even = TimesOf(std::make_shared<const Schedule>(constant), 3, kStart + 1'000'000'000);
  CHECK_EQ(even.size(), 1000u);
  for (size_t i = 0; i < even.size(); ++i) CHECK_EQ(even[i], kStart + static_cast<TimeNs>(i / 10) * 10'000'000);
  Schedule poisson{Schedule::Kind::kPoisson, 1000, 42, {}, 10};
  const auto random = TimesOf(std::make_shared<const Schedule>(poisson), 3, kStart + 1'000'000'000'000);
  CHECK(std::abs(static_cast<double>(random.size()) - 1e6) < 4 * 10 * std::sqrt(1e5));
  for (size_t i = 0; i + 1 < random.size(); ++i) CHECK_EQ(random[i] == random[i + 1], i % 10 != 9);
}

TEST(Pacer, IntervalsStartOverAndOffsetsEnd) {
  const auto gaps = TimesOf(Make(Schedule::Kind::kIntervals, 1, {10, 20}), 1, kStart + 61);
  CHECK((gaps == std::vector<TimeNs>{kStart, kStart + 10, kStart + 30, kStart + 40, kStart + 60}));
  const auto once = TimesOf(Make(Schedule::Kind::kOnce, 1, {7, 9}), 1, INT64_MAX);
  CHECK((once == std::vector<TimeNs>{kStart + 7, kStart + 9}));
}

TEST(Pacer, DueLooksAheadAndMovesNothing) {
  const Pacer pacer(Make(Schedule::Kind::kConstant, 10), kStart, 0, 1);
  CHECK_EQ(pacer.Due(kStart - 1, 100), 0u);
  CHECK_EQ(pacer.Due(kStart + 1'000'000'000, 100), 11u);
  CHECK_EQ(pacer.Due(kStart + 1'000'000'000, 5), 5u);
  CHECK_EQ(pacer.next(), kStart);
}

}  // namespace
}  // namespace pyinfer
