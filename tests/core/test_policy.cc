// SPDX-License-Identifier: Apache-2.0
#include <sstream>
#include <string>
#include <vector>

#include "check.h"
#include "sched/policy.h"

namespace pyinfer {
namespace {

constexpr TimeNs kDelay = 100;
constexpr TimeNs kOldest = 1000;

std::string Text(const Decision& decision) {
  switch (decision.kind) {
    case Decision::Kind::kIdle:
      return "idle";
    case Decision::Kind::kTake:
      return "take " + std::to_string(decision.requests);
    case Decision::Kind::kWaitUntil:
      return "wait until " + std::to_string(decision.until);
  }
  return "";
}

struct Case {
  const char* what;
  std::vector<int64_t> rows;
  bool saturated;
  TimeNs delay;
  std::vector<int64_t> preferred;
  TimeNs waited;
  const char* decision;
};

TEST(Policy, Table) {
  const std::vector<Case> cases = {
      {"nothing there", {}, false, 0, {}, 0, "idle"},
      {"nothing there, with a delay", {}, false, kDelay, {4}, 500, "idle"},
      {"no delay: what is there", {1}, false, 0, {}, 0, "take 1"},
      {"no delay: all that is there", {1, 2, 1}, false, 0, {}, 0, "take 3"},
      {"no delay, preferred reached", {1, 1, 1, 1, 1}, false, 0, {2, 4}, 0, "take 4"},
      {"no delay, no preferred reached", {3}, false, 0, {4}, 0, "take 1"},
      {"no delay, a larger request jumps over a preferred size", {1, 2}, false, 0, {2}, 0, "take 2"},
      {"delay: waits for the oldest", {1, 1}, false, kDelay, {}, 10, "wait until 1100"},
      {"delay: one short of it", {1}, false, kDelay, {}, 99, "wait until 1100"},
      {"delay: reached", {1, 1}, false, kDelay, {}, 100, "take 2"},
      {"delay: long past", {1}, false, kDelay, {4}, 100000, "take 1"},
      {"delay: a preferred size does not wait", {1, 1}, false, kDelay, {2}, 0, "take 2"},
      {"delay: the longest preferred prefix", {1, 1, 1, 1, 1}, false, kDelay, {2, 4, 8}, 0, "take 4"},
      {"delay: rows count, not requests", {3, 5}, false, kDelay, {8}, 0, "take 2"},
      {"delay: a preferred size that is jumped over", {3, 2}, false, kDelay, {4}, 0, "wait until 1100"},
      {"delay reached: more than the preferred size", {1, 1, 1}, false, kDelay, {2}, 100, "take 3"},
      {"can not grow: no waiting", {3, 4}, true, kDelay, {}, 0, "take 2"},
      {"can not grow: a preferred prefix is still better", {2, 2, 3}, true, kDelay, {4}, 0, "take 2"},
      {"a lone request that is larger than allowed", {9}, true, kDelay, {4}, 0, "take 1"},
  };
  for (const Case& c : cases) {
    BatchOptions options;
    options.max_batch_size = 8;
    options.dynamic = true;
    options.max_queue_delay_ns = c.delay;
    options.preferred_batch_sizes = c.preferred;
    const QueueView view{c.rows, c.saturated, kOldest};
    CHECK_EQ(std::string(c.what) + ": " + Text(Decide(view, kOldest + c.waited, options)),
             std::string(c.what) + ": " + c.decision);
  }
}

TEST(Policy, WithoutDynamicBatching) {
  BatchOptions options;
  options.max_batch_size = 8;
  options.max_queue_delay_ns = kDelay;
  options.preferred_batch_sizes = {2};
  CHECK_EQ(Text(Decide({{1, 1, 1}, false, kOldest}, kOldest, options)), "take 1");
  CHECK_EQ(Text(Decide({{}, false, 0}, kOldest, options)), "idle");
}

TEST(Policy, IsRipeWhenItSaidSo) {
  BatchOptions options;
  options.max_batch_size = 64;
  options.dynamic = true;
  options.max_queue_delay_ns = kDelay;
  const QueueView view{{1, 2, 3}, false, kOldest};
  const Decision wait = Decide(view, kOldest, options);
  CHECK_EQ(Text(Decide(view, wait.until - 1, options)), Text(wait));
  CHECK_EQ(Text(Decide(view, wait.until, options)), "take 3");
}

}  // namespace
}  // namespace pyinfer
