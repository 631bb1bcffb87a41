// SPDX-License-Identifier: Apache-2.0
// test_slo_load.cc - a model with a latency SLO beside the same model with the best of many fixed queue delays, under
// the same load. What is counted: requests answered within the SLO, those included from which it learned.
#include <algorithm>
#include <map>
#include <sstream>
#include <string>

#include "check.h"
#include "scheduling.h"
#include "slo_load.h"

namespace pyinfer::testing {
namespace {

constexpr int64_t kMost = 64;

struct Case {
  const char* name;
  Curve curve;
  double slo_ms;
  size_t instances = 1;
  double noise = 0.1;
  double outliers = 0.005;
};

const std::vector<Case>& Cases() {
  const auto d = [](int64_t rows) { return static_cast<double>(rows); };
  static const std::vector<Case> cases = {
      {"cheap, with overhead", [d](int64_t n) { return 2 + 0.25 * d(n); }, 50},
      {"dear, with overhead", [d](int64_t n) { return 20 + 0.5 * d(n); }, 100},
      {"two instances", [d](int64_t n) { return 10 + 0.5 * d(n); }, 60, 2},
      {"no gain", [d](int64_t n) { return 5 * d(n); }, 100},
      {"batches hurt", [d](int64_t n) { return n == 1 ? 4.8 : 12 * d(n); }, 100},
      {"steps of 8", [d](int64_t n) { return 5 * d((n + 7) / 8); }, 50},
      {"wide layers", [d](int64_t n) { return 14 + 0.6 * d(n); }, 100, 2},
      {"wide layers, on a busy machine", [d](int64_t n) { return 14 + 0.6 * d(n); }, 100, 2, 0.3, 0.01},
      {"best at 8", [d](int64_t n) { return n <= 8 ? 4 + 0.5 * d(n) : 8 + 3 * d(n - 8); }, 80},
  };
  return cases;
}

ModelSpec Batching(double delay_ms) {
  BatchOptions options;
  options.max_batch_size = kMost;
  options.dynamic = true;
  options.preferred_batch_sizes = {kMost};
  options.max_queue_delay_ns = static_cast<int64_t>(delay_ms * 1e6);
  return IntModel(options);
}

ModelSpec WithSlo(double slo_ms) {
  ModelSpec spec = Batching(0);
  spec.batching.preferred_batch_sizes = {};
  spec.queue.latency_slo_ns = static_cast<int64_t>(slo_ms * 1e6);
  return spec;
}

// Rows a second, with the size that is best within half of the SLO.
double Capacity(const Case& one) {
  double best = 0;
  for (int64_t rows = 1; rows <= kMost; ++rows) {
    const double ms = one.curve(rows);
    if (ms <= one.slo_ms / 2) best = std::max(best, static_cast<double>(rows) / ms * 1e3);
  }
  return best * static_cast<double>(one.instances);
}

// `load`: of the capacity.
SloScenario Scenario(const Case& one, double load, bool bursts, uint64_t seed) {
  SloScenario scenario;
  scenario.curve = one.curve;
  scenario.slo_ms = one.slo_ms;
  scenario.instances = one.instances;
  scenario.noise = one.noise;
  scenario.outliers = one.outliers;
  scenario.seed = seed;
  scenario.load.rate = load * Capacity(one);
  scenario.load.burst = bursts ? 4 : 1;
  scenario.load.burst_ms = 2 * one.slo_ms;
  scenario.seconds = std::max(3.0, 6000 / scenario.load.rate);
  return scenario;
}

// Strays are left out where little is lost: which of the ways meets them with a large batch is luck.
void CheckAgainstFixed(double load, bool bursts, double least, bool strays = true) {
  for (const Case& one : Cases()) {
    size_t good = 0, sent = 0, late = 0;
    std::map<double, size_t> fixed = {{0, 0}, {1, 0}, {2, 0}, {5, 0}, {10, 0}, {20, 0}, {40, 0}};
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      SloScenario scenario = Scenario(one, load, bursts, seed);
      if (!strays) scenario.outliers = 0;
      const LoadResult result = RunLoad(scenario, WithSlo(one.slo_ms));
      good += result.good;
      late += result.late;
      sent += result.sent;
      for (auto& [delay_ms, answered] : fixed) answered += RunLoad(scenario, Batching(delay_ms)).good;
    }
    size_t best = 0;
    for (const auto& [delay_ms, answered] : fixed) best = std::max(best, answered);
    const size_t most_late = sent / (one.noise > 0.2 ? 12 : 25);
    if (static_cast<double>(good) >= least * static_cast<double>(best) && late <= most_late) continue;
    std::ostringstream what;
    what << one.name << " at " << load << (bursts ? " in bursts" : "") << ": " << good << " of " << sent << ", late "
         << late << ", best fixed delay " << best;
    Fail(__FILE__, __LINE__, what.str());
  }
}

// Where fixed delays answer nearly all, some thousandths are what the first executions cost, from which it learns.
TEST(SloLoad, IsNoWorseThanAnyFixedDelayUnderLightLoad) {
  CheckAgainstFixed(0.3, false, 0.999, false);
  CheckAgainstFixed(0.6, false, 0.998, false);
}

TEST(SloLoad, IsNoWorseThanAnyFixedDelayNearCapacity) {
  CheckAgainstFixed(0.8, false, 0.995, false);
  CheckAgainstFixed(0.95, false, 0.995, false);
}

TEST(SloLoad, AnswersMuchMoreInBursts) {
  CheckAgainstFixed(0.3, true, 0.98);
  CheckAgainstFixed(0.8, true, 1.3);
}

TEST(SloLoad, AnswersManyTimesMoreUnderOverload) {
  CheckAgainstFixed(1.2, false, 3);
  CheckAgainstFixed(2.5, false, 3);
}

// What it answers under overload is what the model can do, and not much less.
TEST(SloLoad, OverloadCostsLittle) {
  for (const Case& one : Cases()) {
    const SloScenario scenario = Scenario(one, 2.0, false, 3);
    const double possible = Capacity(one) * scenario.seconds;
    CHECK(static_cast<double>(RunLoad(scenario, WithSlo(one.slo_ms)).good) >= 0.7 * possible);
  }
}

// The model changes while it is served: what was learned is forgotten in time.
TEST(SloLoad, FollowsTheModel) {
  const auto d = [](int64_t rows) { return static_cast<double>(rows); };
  const Curve hurts = [d](int64_t n) { return n == 1 ? 4.8 : 12 * d(n); };
  const Curve gains = [d](int64_t n) { return 4.8 + 0.2 * d(n); };
  for (const bool better : {true, false}) {
    SloScenario scenario;
    scenario.curve = better ? hurts : gains;
    scenario.curve_later = better ? gains : hurts;
    scenario.slo_ms = 100;
    scenario.load.rate = 400;  // twice what single executions can do
    scenario.seconds = 40;
    const LoadResult result = RunLoad(scenario, WithSlo(scenario.slo_ms));
    // Batches answer all; single executions half.
    const double share = static_cast<double>(result.good) / static_cast<double>(result.sent);
    CHECK(share > 0.65);
  }
}

// A model that can not keep its SLO at all is asked now and then whether it still can not, and takes up again once it
// can.
TEST(SloLoad, RecoversFromATimeInWhichNothingWasInTime) {
  SloScenario scenario;
  scenario.curve = [](int64_t) { return 80.0; };
  scenario.curve_later = [](int64_t) { return 5.0; };
  scenario.slo_ms = 40;
  scenario.load.rate = 100;
  scenario.seconds = 20;
  const LoadResult result = RunLoad(scenario, WithSlo(scenario.slo_ms));
  CHECK(static_cast<double>(result.good) > 0.4 * static_cast<double>(result.sent));
}

TEST(SloLoad, TheSameSeedIsTheSameRun) {
  const SloScenario scenario = Scenario(Cases().front(), 1.2, true, 7);
  const LoadResult one = RunLoad(scenario, WithSlo(50)), other = RunLoad(scenario, WithSlo(50));
  CHECK_EQ(one.good, other.good);
  CHECK_EQ(one.executions, other.executions);
}

}  // namespace
}  // namespace pyinfer::testing
