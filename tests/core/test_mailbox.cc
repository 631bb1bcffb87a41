// SPDX-License-Identifier: Apache-2.0
#include <poll.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/mailbox.h"
#include "check.h"

namespace pyinfer {
namespace {

bool Readable(int fd, int timeout_ms = 0) {
  pollfd entry{fd, POLLIN, 0};
  return poll(&entry, 1, timeout_ms) == 1;
}

TEST(MailQueue, WakesOnceForABurst) {
  MailQueue<int> queue;
  CHECK(!Readable(queue.fd()));
  for (int i = 0; i < 10; ++i) queue.Post(i);
  CHECK(Readable(queue.fd()));
  const std::vector<int> items = queue.Collect();
  CHECK_EQ(items.size(), size_t{10});
  for (int i = 0; i < 10; ++i) CHECK_EQ(items[static_cast<size_t>(i)], i);
  CHECK(!Readable(queue.fd()));
  CHECK(queue.Collect().empty());
  queue.Post(1);
  CHECK(Readable(queue.fd()));
}

TEST(MailQueue, DoesNotWakeACollectorThatIsAwake) {
  MailQueue<int> queue;
  queue.set_collecting(true);
  queue.Post(1);
  CHECK(!Readable(queue.fd()));
  queue.set_collecting(false);
  CHECK_EQ(queue.Collect().size(), size_t{1});
  queue.Post(2);
  CHECK(Readable(queue.fd()));
}

TEST(MailQueue, DropsWhatComesAfterClose) {
  MailQueue<std::shared_ptr<int>> queue;
  const auto item = std::make_shared<int>(1);
  queue.Post(item);
  queue.Close();
  queue.Post(item);
  CHECK_EQ(item.use_count(), 1L);
  CHECK(queue.Collect().empty());
}

// The collector sleeps until it is woken: it would sleep forever if a wake-up were lost, and never if one stayed
// behind.
TEST(MailQueue, LosesNoWakeUpAndKeepsNone) {
  constexpr int kThreads = 4;
  constexpr int kEach = 20000;
  MailQueue<int> queue;
  std::atomic<int> running{kThreads};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&queue, &running] {
      for (int i = 0; i < kEach; ++i) queue.Post(i);
      running.fetch_sub(1);
    });
  }
  size_t got = 0;
  bool woken = true;
  while (got < size_t{kThreads} * kEach && woken) {
    woken = Readable(queue.fd(), 20000);
    got += queue.Collect().size();
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(woken);
  CHECK_EQ(got, size_t{kThreads} * kEach);
  queue.Collect();
  CHECK(!Readable(queue.fd()));
}

TEST(ManualClock, MovesWhenTold) {
  ManualClock clock(5);
  CHECK_EQ(clock.Now(), TimeNs{5});
  clock.Advance(7);
  CHECK_EQ(clock.Now(), TimeNs{12});
}

TEST(SystemClock, WaitsUntil) {
  const SystemClock clock;
  std::mutex mutex;
  std::condition_variable condition;
  std::unique_lock<std::mutex> lock(mutex);
  const TimeNs until = clock.Now() + 1'000'000;
  while (clock.Now() < until) clock.Wait(condition, lock, until);
  CHECK(clock.Now() >= until);
  CHECK(WallClockMs() > 1'600'000'000'000);
}

}  // namespace
}  // namespace pyinfer
