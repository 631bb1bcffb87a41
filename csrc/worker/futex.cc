// SPDX-License-Identifier: Apache-2.0
#include "worker/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <ctime>

namespace pyinfer {
namespace {

// As the kernel's headers have it since 5.16; those of older systems build this as well.
constexpr long kFutexWaitv = 449;
struct FutexWaiter {
  uint64_t value;
  uint64_t address;
  uint32_t flags;
  uint32_t reserved;
};
constexpr uint32_t kSize32 = 2;

FutexWaiter WaiterOf(const FutexSeen& seen) { return {seen.seen, reinterpret_cast<uint64_t>(&seen.word), kSize32, 0}; }

}  // namespace

void FutexWait(const std::atomic<uint32_t>& word, uint32_t seen, TimeNs timeout) {
  const timespec time{timeout / 1'000'000'000, timeout % 1'000'000'000};
  syscall(SYS_futex, &word, FUTEX_WAIT, seen, &time, nullptr, 0);
}

bool CanFutexWaitEither() {
  static const bool can = syscall(kFutexWaitv, nullptr, 0, 0, nullptr, 0) == -1 && errno == EINVAL;
  return can;
}

void FutexWaitEither(const FutexSeen& one, const FutexSeen& other, TimeNs timeout) {
  const std::array<FutexWaiter, 2> waiters = {WaiterOf(one), WaiterOf(other)};
  timespec until{};
  clock_gettime(CLOCK_MONOTONIC, &until);
  const TimeNs ns = until.tv_nsec + timeout;
  until.tv_sec += ns / 1'000'000'000;
  until.tv_nsec = ns % 1'000'000'000;
  syscall(kFutexWaitv, waiters.data(), waiters.size(), 0, &until, CLOCK_MONOTONIC);
}

void FutexWake(const std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace pyinfer
