// SPDX-License-Identifier: Apache-2.0
#include "check.h"
#include "sched/service_time.h"
#include "simulation/random.h"

namespace pyinfer {
namespace {

constexpr TimeNs kMs = 1'000'000;

bool Near(TimeNs value, double ms, double tolerance) {
  const double is = static_cast<double>(value) / kMs;
  return is > ms * (1 - tolerance) && is < ms * (1 + tolerance);
}

void Feed(ServiceTimes& times, int64_t rows, double ms, int count) {
  for (int i = 0; i < count; ++i) times.Add(rows, static_cast<TimeNs>(ms * kMs));
}

TEST(ServiceTimes, KnowsNothingAtFirst) {
  const ServiceTimes times;
  CHECK(!times.known());
  CHECK_EQ(times.Mean(1), 0);
  CHECK_EQ(times.largest(), 0);
  CHECK_EQ(times.Best(kMs).rows, 0.0);
}

TEST(ServiceTimes, LearnsEachSizeAndWhatIsBetween) {
  ServiceTimes times;
  Feed(times, 1, 2, 5);
  Feed(times, 4, 8, 5);
  Feed(times, 16, 10, 5);
  CHECK(Near(times.Mean(1), 2, 0.001));
  CHECK(Near(times.Mean(4), 8, 0.001));
  CHECK(Near(times.Mean(10), 9, 0.001));
  CHECK(Near(times.Mean(31), 18, 0.001));  // the line from the first to the last
  CHECK_EQ(times.Best(100 * kMs).rows, 16.0);
  CHECK_EQ(times.Best(8 * kMs).most_rows, 1);  // the first of two that are as good, within the limit
  CHECK_EQ(times.largest(), 16);
}

// What larger sizes do says nothing of one that was not seen: the line that led up to it does.
TEST(ServiceTimes, AGapIsTakenToBeWorthALook) {
  ServiceTimes times;
  Feed(times, 1, 5, 5);
  Feed(times, 5, 7, 5);
  Feed(times, 20, 50, 5);
  CHECK(Near(times.Mean(6), 7.5, 0.001));  // of the same cell
  CHECK(Near(times.Mean(8), 8.5, 0.001));  // of the next
  CHECK(times.Mean(12) > 20 * kMs);        // no further
  Feed(times, 8, 30, 5);
  CHECK(Near(times.Mean(8), 30, 0.001));  // seen
  CHECK(Near(times.Mean(6), 7.5, 0.001));
  CHECK(times.Mean(7) > 20 * kMs);
}

TEST(ServiceTimes, ReachesAsFarAsTimeIsExpectedToAllow) {
  ServiceTimes times;
  CHECK_EQ(times.Reach(), 2);
  Feed(times, 1, 20, 2);
  CHECK_EQ(times.Reach(), 2);  // of one size nothing follows for others
  Feed(times, 2, 20.5, 2);
  CHECK_EQ(times.Reach(), 8);
  Feed(times, 8, 24, 2);
  CHECK_EQ(times.Reach(), 32);
  Feed(times, 32, 100, 2);
  CHECK_EQ(times.Reach(), 64);
}

// Each size that executions may have has a cell, whose name is the most rows that count in it.
TEST(ServiceTimes, CellsFollowEachOther) {
  int64_t last = 0;
  for (int64_t rows = 1; rows <= 5000; ++rows) {
    ServiceTimes times;
    times.Add(rows, kMs);
    const int64_t most = times.points().at(0).most_rows;
    CHECK(rows <= most && most >= last);
    CHECK(rows > last || most == last);  // nothing is between a cell and the next
    last = most;
    CHECK(static_cast<double>(most) <= 1.5 * static_cast<double>(rows));
  }
}

TEST(ServiceTimes, BatchesMayTakeLongerThanTheirRows) {
  ServiceTimes times;
  Feed(times, 1, 5, 10);
  Feed(times, 2, 24, 10);
  CHECK(Near(times.Mean(2), 24, 0.001));
  CHECK_EQ(times.Best(100 * kMs).rows, 1.0);
}

// One execution that met with a pause does not end a size, not even as its first.
TEST(ServiceTimes, OneUnluckyExecutionIsNotBelieved) {
  ServiceTimes times;
  Feed(times, 4, 4, 10);
  Feed(times, 8, 100, 1);
  CHECK(times.Mean(8) <= 8 * kMs);
  CHECK_EQ(times.largest(), 4);  // and no step towards larger ones
  Feed(times, 8, 5, 1);
  CHECK(Near(times.Mean(8), 5, 0.001));
  CHECK_EQ(times.largest(), 8);
  // Among many it moves the mean by little.
  Feed(times, 8, 5, 30);
  Feed(times, 8, 500, 1);
  CHECK(Near(times.Mean(8), 5, 0.3));
}

TEST(ServiceTimes, FollowsAChangeThatStays) {
  for (const double ms : {20.0, 1.0}) {
    ServiceTimes times;
    Feed(times, 8, 5, 200);
    Feed(times, 8, ms, 60);
    CHECK(Near(times.Mean(8), ms, 0.25));
    Feed(times, 8, ms, 60);
    CHECK(Near(times.Mean(8), ms, 0.05));
  }
}

// Whoever picks the times of executions can not drive what is learned out of their range.
TEST(ServiceTimes, StaysWithinWhatWasSeen) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    simulation::Random random(seed);
    ServiceTimes times;
    for (int i = 0; i < 500; ++i) {
      times.Add(1 + static_cast<int64_t>(random.Below(64)),
                random.Of<TimeNs>({0, 1, kMs, kMs, 10 * kMs, 10'000 * kMs}));
      for (const ServiceTimes::Point& point : times.points()) {
        CHECK(point.mean_ns > 0 && point.mean_ns <= 1e4 * kMs);
        CHECK(point.deviation_ns >= 0 && point.deviation_ns <= 1e4 * kMs);
      }
      for (const int64_t rows : {1, 7, 64}) {
        CHECK(times.AtLeast(rows) <= times.Mean(rows) && times.Mean(rows) <= times.Likely(rows));
      }
    }
  }
}

TEST(ServiceTimes, KnowsHowOldASizeIs) {
  ServiceTimes times;
  Feed(times, 1, 1, 10);
  Feed(times, 8, 1, 30);
  CHECK_EQ(times.Age(8), uint64_t{0});
  CHECK_EQ(times.Age(1), uint64_t{30});
  CHECK_EQ(times.Age(64), uint64_t{40});  // never seen
  Feed(times, 32, 1, 1);
  Feed(times, 8, 1, 1);
  CHECK(times.Age(32) > 1);  // seen once: worth a look again sooner
}

}  // namespace
}  // namespace pyinfer
