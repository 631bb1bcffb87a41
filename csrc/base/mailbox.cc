// SPDX-License-Identifier: Apache-2.0
#include "base/mailbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

namespace pyinfer {

WakeUp::WakeUp() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

WakeUp::~WakeUp() { close(fd_); }

void WakeUp::Raise() {
  const uint64_t one = 1;
  // Can fail only where the counter is full, and then the descriptor is readable.
  [[maybe_unused]] const ssize_t written = write(fd_, &one, sizeof(one));
}

void WakeUp::Lower() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(fd_, &count, sizeof(count));
}

}  // namespace pyinfer
