// SPDX-License-Identifier: Apache-2.0
#include "worker/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace pyinfer {

void FutexWait(const std::atomic<uint32_t>& word, uint32_t seen, TimeNs timeout) {
  const timespec time{timeout / 1'000'000'000, timeout % 1'000'000'000};
  syscall(SYS_futex, &word, FUTEX_WAIT, seen, &time, nullptr, 0);
}

void FutexWake(const std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace pyinfer
