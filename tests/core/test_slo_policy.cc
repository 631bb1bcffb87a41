// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <functional>

#include "check.h"
#include "sched/slo_policy.h"

namespace pyinfer {
namespace {

constexpr TimeNs kMs = 1'000'000;
constexpr TimeNs kNow = 1000 * kMs;
constexpr TimeNs kSlo = 100 * kMs;

ServiceTimes Learned(const std::function<double(int64_t)>& ms, int64_t most = 64) {
  ServiceTimes times;
  for (int64_t rows = 1; rows <= most; rows = rows < 4 ? rows + 1 : rows + rows / 2) {
    for (int i = 0; i < 20; ++i) times.Add(rows, static_cast<TimeNs>(ms(rows) * kMs));
  }
  return times;
}

double Overhead(int64_t rows) { return 10 + 0.5 * static_cast<double>(rows); }
double Hurts(int64_t rows) { return rows == 1 ? 5 : 12 * static_cast<double>(rows); }

SloView Queue(const std::vector<TimeNs>& left) {
  SloView view;
  for (const TimeNs ms : left) view.first.push_back({1, kNow + ms * kMs});
  view.rows_waiting = static_cast<int64_t>(left.size());
  view.most_rows = 64;
  view.free_at = kNow;
  return view;
}

SloView Many(size_t count, TimeNs left) { return Queue(std::vector<TimeNs>(count, left)); }

TEST(SloPolicy, WithoutKnowledgeOneGoes) {
  const SloDecision decision = DecideSlo(Many(5, 50), kNow, ServiceTimes(), kSlo);
  CHECK_EQ(decision.take, size_t{1});
  CHECK_EQ(decision.drop, size_t{0});
  CHECK_EQ(DecideSlo(SloView(), kNow, ServiceTimes(), kSlo).take, size_t{0});
}

TEST(SloPolicy, AllGoTogetherWhereThatIsFaster) {
  CHECK_EQ(DecideSlo(Many(20, 90), kNow, Learned(Overhead), kSlo).take, size_t{20});
}

TEST(SloPolicy, OneGoesAtATimeWhereBatchesHurt) {
  CHECK_EQ(DecideSlo(Many(20, 90), kNow, Learned(Hurts), kSlo).take, size_t{1});
}

TEST(SloPolicy, StepsAreNotCrossed) {
  const ServiceTimes times = Learned([](int64_t rows) { return 5.0 * static_cast<double>((rows + 7) / 8); });
  const size_t taken = DecideSlo(Many(9, 90), kNow, times, kSlo).take;
  CHECK(taken >= 6 && taken <= 8);
}

// An execution may not take so long that those that come while it runs have no time left.
TEST(SloPolicy, BatchesLeaveTimeForTheNext) {
  const ServiceTimes times = Learned([](int64_t rows) { return 40 + 1.0 * static_cast<double>(rows); });
  const size_t taken = DecideSlo(Many(60, 99), kNow, times, kSlo).take;
  CHECK(taken >= 16 && taken <= 21);
}

TEST(SloPolicy, GrowsIntoTheUnknownByWhatIsToBeExpectedOfIt) {
  CHECK_EQ(DecideSlo(Many(60, 90), kNow, Learned(Overhead, 4), kSlo).take, size_t{16});  // 18 ms instead of 12
  const auto row_by_row = [](int64_t rows) { return 2.0 * static_cast<double>(rows); };
  CHECK_EQ(DecideSlo(Many(60, 90), kNow, Learned(row_by_row, 4), kSlo).take, size_t{8});
}

// What time costs grows with what comes: nobody is given up for those who do not come.
TEST(SloPolicy, TheFirstIsGivenUpForThoseWhoCome) {
  // Eight have time only if few others go with them.
  std::vector<TimeNs> left(30, 90);
  std::fill(left.begin(), left.begin() + 8, 16);
  SloView view = Queue(left);
  CHECK_EQ(DecideSlo(view, kNow, Learned(Overhead), kSlo).drop, size_t{0});
  view.interval = 10 * kMs;
  CHECK_EQ(DecideSlo(view, kNow, Learned(Overhead), kSlo).drop, size_t{0});
  view.interval = kMs / 2;
  CHECK_EQ(DecideSlo(view, kNow, Learned(Overhead), kSlo).drop, size_t{8});
}

TEST(SloPolicy, ASmallerBatchSavesTheFirst) {
  // 11 ms: a batch of 20 would be late for the first, who goes with one more; the others have time.
  std::vector<TimeNs> left(20, 90);
  left[0] = left[1] = 12;
  const SloDecision decision = DecideSlo(Queue(left), kNow, Learned(Overhead), kSlo);
  CHECK_EQ(decision.drop, size_t{0});
  CHECK(decision.take >= 1 && decision.take <= 4);
}

TEST(SloPolicy, TheFirstIsGivenUpForManyOthers) {
  // If the first goes alone, the others are late.
  std::vector<TimeNs> left(20, 24);
  left[0] = 12;
  const SloDecision decision = DecideSlo(Queue(left), kNow, Learned(Overhead), kSlo);
  CHECK_EQ(decision.drop, size_t{1});
  CHECK_EQ(decision.take, size_t{19});
}

TEST(SloPolicy, WaitsOnlyForOneThatIsDue) {
  const ServiceTimes times = Learned(Overhead);
  SloView view = Many(3, 90);
  CHECK_EQ(DecideSlo(view, kNow, times, kSlo).take, size_t{3});  // nothing is known of the others to come
  view.interval = kMs;
  view.last_arrival = kNow;
  SloDecision decision = DecideSlo(view, kNow, times, kSlo);
  CHECK_EQ(decision.take, size_t{0});
  CHECK_EQ(decision.until, kNow + kMs);
  CHECK_EQ(DecideSlo(view, kNow + kMs, times, kSlo).take, size_t{3});  // it did not come
  view.interval = 20 * kMs;
  CHECK_EQ(DecideSlo(view, kNow, times, kSlo).take, size_t{3});  // too far off
  view.interval = kMs;
  view.saturated = true;
  CHECK_EQ(DecideSlo(view, kNow, times, kSlo).take, size_t{3});  // could not join
  view.saturated = false;
  view.first.front().deadline = kNow + 12 * kMs;
  CHECK_EQ(DecideSlo(view, kNow, times, kSlo).take, size_t{3});  // the first has no time to wait
  CHECK_EQ(DecideSlo(view, kNow, Learned(Hurts), kSlo).take, size_t{1});
}

TEST(SloPolicy, WhoIsAloneOnAnIdleModelNeverWaits) {
  SloView view = Many(1, 90);
  view.interval = kMs / 100;
  view.last_arrival = kNow;
  CHECK_EQ(DecideSlo(view, kNow, Learned(Overhead), kSlo).take, size_t{1});
  view.running = 1;  // another instance is at work: waiting may pay
  view.instances = 2;
  CHECK_EQ(DecideSlo(view, kNow, Learned(Overhead), kSlo).take, size_t{0});
}

TEST(SloPolicy, TriesASizeWhereThatIsSafe) {
  SloView view = Many(20, 90);
  view.tries = {2};
  CHECK_EQ(DecideSlo(view, kNow, Learned(Hurts), kSlo).take, size_t{2});
  view = Many(20, 20);  // would be late
  view.tries = {2};
  CHECK_EQ(DecideSlo(view, kNow, Learned(Hurts), kSlo).take, size_t{1});
  view = Many(1, 90);  // not so many
  view.tries = {2, 1};
  CHECK_EQ(DecideSlo(view, kNow, Learned(Hurts), kSlo).take, size_t{1});
}

TEST(SloPolicy, ExpectsAnswersByRounds) {
  const ServiceTimes times = Learned([](int64_t) { return 10.0; }, 1);  // 100 rows a second
  SloView view = Queue({});
  view.most_rows = 1;
  CHECK_EQ(ExpectedAnswer(view, 1, kNow, ServiceTimes(), kSlo), kNow);
  CHECK_EQ(ExpectedAnswer(view, 1, kNow, times, kSlo), kNow + 10 * kMs);
  view.free_at = kNow + 4 * kMs;
  CHECK_EQ(ExpectedAnswer(view, 1, kNow, times, kSlo), kNow + 14 * kMs);
  view.rows_waiting = 6;
  CHECK_EQ(ExpectedAnswer(view, 1, kNow, times, kSlo), kNow + 74 * kMs);
  view.instances = 2;
  CHECK_EQ(ExpectedAnswer(view, 1, kNow, times, kSlo), kNow + 44 * kMs);
}

}  // namespace
}  // namespace pyinfer
