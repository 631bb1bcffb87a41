// SPDX-License-Identifier: Apache-2.0
// futex.h - sleeping on a number in memory that processes share.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace pyinfer {

// Sleeps, for at most `timeout`, while the word is `seen`. May return early.
void FutexWait(const std::atomic<uint32_t>& word, uint32_t seen, TimeNs timeout);
// Whether this system can sleep on two words at once (futex_waitv, Linux 5.16), and nothing forbids it.
bool CanFutexWaitEither();
struct FutexSeen {
  const std::atomic<uint32_t>& word;
  uint32_t seen;
};
// Sleeps, for at most `timeout`, while both are as they were seen. May return early. Requires: CanFutexWaitEither().
void FutexWaitEither(const FutexSeen& one, const FutexSeen& other, TimeNs timeout);
// Wakes all that sleep on it, in all processes.
void FutexWake(const std::atomic<uint32_t>& word);

}  // namespace pyinfer
