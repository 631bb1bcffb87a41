// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "sched/request_queue.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::KeepingSink;
using testing::SinkPtr;
using Action = QueuePolicy::TimeoutAction;

// A queue of named requests.
struct Fixture {
  explicit Fixture(QueueOptions given) : options(std::move(given)), queue(options) {}

  SinkPtr Push(std::string id, uint64_t priority = 0, TimeNs queued = 0, uint64_t timeout_us = 0) {
    auto sink = std::make_shared<KeepingSink>();
    auto request = std::make_unique<Request>(sink);
    request->id = std::move(id);
    request->priority = priority;
    request->timeout_us = timeout_us;
    request->timeline.queued = queued;
    request->queue_deadline = QueueDeadline(options, *request);
    status = queue.Push(request);
    if (!status.ok()) request->Fail(FailureReason::kRejected, status);
    return sink;
  }

  std::string Order() const {
    std::string ids;
    queue.ForEach([&](const Request& request) { return ids += request.id, true; });
    return ids;
  }

  static std::string Ids(const std::vector<RequestPtr>& requests) {
    std::string ids;
    for (const RequestPtr& request : requests) ids += request->id;
    return ids;
  }

  std::string Expire(TimeNs now) {
    std::vector<RequestPtr> refused;
    queue.Expire(now, refused);
    return Ids(refused);
  }

  const QueueOptions options;
  RequestQueue queue;
  Status status;
};

TEST(RequestQueue, TakesByPriorityThenArrival) {
  Fixture f({3, 2, {}, {}});
  f.Push("a", 3);
  f.Push("b");  // the default level
  f.Push("c", 1);
  f.Push("d", 9);  // not a level: the default one
  f.Push("e", 1);
  CHECK_EQ(f.Order(), "cebda");
  CHECK_EQ(Fixture::Ids(f.queue.TakeFirst(3)), "ceb");
  CHECK_EQ(f.queue.size(), size_t{2});
  CHECK_EQ(Fixture::Ids(f.queue.TakeAll()), "da");
  CHECK(f.queue.empty());
}

TEST(RequestQueue, TakesFromTheMiddleOfEachLevel) {
  QueuePolicy policy;
  policy.timeout_action = Action::kDelay;
  policy.default_timeout_ns = 100;
  Fixture f({2, 2, policy, {}});
  for (const char* id : {"a", "b", "c"}) f.Push(id, 1, 0);
  CHECK_EQ(f.Expire(100), "");  // now behind the others of their level
  for (const char* id : {"d", "e"}) f.Push(id, 1, 100);
  for (const char* id : {"x", "y", "z"}) f.Push(id, 2, 100);
  CHECK_EQ(f.Order(), "deabcxyz");
  CHECK_EQ(Fixture::Ids(f.queue.TakeAt({1, 3, 6}, 3)), "eby");
  CHECK_EQ(f.Order(), "dacxz");
  CHECK_EQ(f.queue.size(), size_t{5});
  CHECK_EQ(Fixture::Ids(f.queue.TakeAt({0, 2, 4}, 2)), "dc");
  CHECK_EQ(f.Order(), "axz");
  CHECK_EQ(Fixture::Ids(f.queue.TakeAt({0, 1, 2}, 3)), "axz");
  CHECK(f.queue.empty());
}

TEST(RequestQueue, WithoutLevelsAllAreAlike) {
  Fixture f({});
  for (const uint64_t priority : {3u, 1u, 2u}) f.Push(std::to_string(priority), priority);
  CHECK_EQ(f.Order(), "312");
}

TEST(RequestQueue, EachLevelHasItsLimit) {
  QueuePolicy small;
  small.max_queue_size = 1;
  Fixture f({2, 2, {}, {{1, small}}});
  f.Push("a", 1);
  const SinkPtr refused = f.Push("b", 1);
  CHECK_EQ(refused->message(), "[request id: b] Exceeds maximum queue size");
  CHECK(refused->code() == Code::kUnavailable);
  for (int i = 0; i < 10; ++i) f.Push("c", 2);
  CHECK(f.status.ok());
  f.queue.TakeFirst(1);
  f.Push("d", 1);
  CHECK(f.status.ok());
}

TEST(RequestQueue, RefusesThoseWhoseTimeIsOver) {
  QueuePolicy policy;
  policy.default_timeout_ns = 1'000'000;
  policy.allow_timeout_override = true;
  Fixture f({0, 0, policy, {}});
  f.Push("a", 0, 100);
  f.Push("b", 0, 200, 1);       // shorter
  f.Push("c", 0, 300, 10'000);  // longer: the policy's
  CHECK_EQ(f.queue.next_deadline(), TimeNs{1200});
  CHECK_EQ(f.Expire(1199), "");
  CHECK_EQ(f.Expire(1200), "b");
  CHECK_EQ(f.queue.next_deadline(), TimeNs{1'000'100});
  CHECK_EQ(f.Expire(1'000'299), "a");
  CHECK_EQ(f.Expire(1'000'300), "c");
  CHECK_EQ(f.queue.next_deadline(), TimeNs{0});
}

TEST(RequestQueue, AClientCanOnlyShortenATimeoutThatThereIs) {
  QueuePolicy policy;
  policy.allow_timeout_override = true;
  Fixture without({0, 0, policy, {}});
  without.Push("a", 0, 100, 1);
  CHECK_EQ(without.queue.next_deadline(), TimeNs{0});
  policy.default_timeout_ns = 1000;
  policy.allow_timeout_override = false;
  Fixture fixed({0, 0, policy, {}});
  fixed.Push("a", 0, 100, UINT64_MAX);
  CHECK_EQ(fixed.queue.next_deadline(), TimeNs{1100});
}

TEST(RequestQueue, DelayedOnesComeLastInTheirLevel) {
  QueuePolicy policy;
  policy.timeout_action = Action::kDelay;
  policy.default_timeout_ns = 100;
  policy.max_queue_size = 3;
  Fixture f({2, 2, {}, {{1, policy}}});
  f.Push("z", 2);
  f.Push("a", 1, 0);
  f.Push("b", 1, 50);
  CHECK_EQ(f.Expire(100), "");
  CHECK_EQ(f.Order(), "baz");
  f.Push("c", 1, 110);
  CHECK_EQ(f.Order(), "bcaz");
  f.Push("d", 1, 120);
  CHECK(!f.status.ok());  // those behind count as well
  CHECK_EQ(f.Expire(1000), "");
  CHECK_EQ(f.Order(), "abcz");
  CHECK_EQ(f.queue.next_deadline(), TimeNs{0});
  CHECK_EQ(Fixture::Ids(f.queue.TakeAll()), "abcz");
}

TEST(RequestQueue, RemovesCancelledOnesAmongTheFirst) {
  Fixture f({2, 2, {}, {}});
  const SinkPtr a = f.Push("a", 2);
  f.Push("b", 1);
  const SinkPtr c = f.Push("c", 2);
  a->cancel = c->cancel = true;
  std::vector<RequestPtr> removed;
  CHECK(!f.queue.RemoveCancelled(1, removed));
  CHECK(f.queue.RemoveCancelled(2, removed));
  CHECK_EQ(Fixture::Ids(removed), "a");
  CHECK(f.queue.RemoveCancelled(2, removed));
  CHECK_EQ(Fixture::Ids(removed), "ac");
  CHECK_EQ(f.Order(), "b");
}

TEST(RequestQueue, ManyPrioritiesLeaveNothingBehind) {
  Fixture f({UINT64_MAX, 1, {}, {}});
  for (uint64_t priority = 1; priority <= 1000; ++priority) {
    f.Push("a", priority * 1'000'003);
    CHECK_EQ(f.queue.TakeAll().size(), size_t{1});
  }
  CHECK(f.queue.empty());
  CHECK_EQ(f.Order(), "");
}

// What one request costs may grow with the logarithm of how many wait, not with their number: the steps are counted.
TEST(RequestQueue, TheWorkForARequestDoesNotGrowWithHowManyWait) {
  constexpr size_t kRequests = 20'000;
  for (const auto action : {Action::kReject, Action::kDelay}) {
    for (const uint64_t levels : {uint64_t{1}, uint64_t{4}, UINT64_MAX}) {  // the last: nearly each has one of its own
      for (const size_t depth : {size_t{16}, size_t{100'000}}) {
        QueuePolicy policy;
        policy.timeout_action = action;
        policy.default_timeout_ns = TimeNs{1} << 50;
        policy.allow_timeout_override = true;
        Fixture f({levels, 1, policy, {}});
        uint64_t random = 1;
        TimeNs now = 0;
        const auto push = [&] {
          random = random * 6364136223846793005u + 1442695040888963407u;
          now += 1000;
          // Some time out while they wait, in an order that is not that of their arrival.
          f.Push("", 1 + random % levels, now, 1 + (random >> 32) % (8 * depth));
        };
        for (size_t i = 0; i < depth; ++i) push();
        const uint64_t before = f.queue.steps();
        std::vector<RequestPtr> gone;
        for (size_t i = 0; i < kRequests; i += 8) {
          while (f.queue.size() < depth + 8) push();
          f.queue.Expire(now, gone);
          size_t seen = 0;
          f.queue.ForEach([&](const Request&) { return ++seen < 8; });
          f.queue.RemoveCancelled(std::min<size_t>(9, f.queue.size()), gone);
          f.queue.TakeFirst(std::min<size_t>(8, f.queue.size()));
        }
        // Looked at, looked at for cancellation, taken, and as a deadline: popped, and at most twice with others.
        CHECK((f.queue.steps() - before) / kRequests < 16);
      }
    }
  }
}

}  // namespace
}  // namespace pyinfer
