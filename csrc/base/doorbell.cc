// SPDX-License-Identifier: Apache-2.0
#include "base/doorbell.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace pyinfer {
namespace {

// Below the usual limit of 1,024 descriptors, above what programs use.
constexpr int kHighNumber = 512;

}  // namespace

Doorbell::Doorbell() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_NONBLOCK | O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe2");
  fd_ = ends[0];
  ringing_fd_ = ends[1];
}

Doorbell::~Doorbell() {
  close(fd_);
  close(ringing_fd_);
}

void Doorbell::Lower() {
  // Of rings that are left in the pipe, it rings once more.
  std::array<char, 4096> rings;
  [[maybe_unused]] const ssize_t got = read(fd_, rings.data(), rings.size());
}

DoorbellRinger::DoorbellRinger(int fd) : fd_(fd) {
  if (fd < 0) return;
  const int high = fcntl(fd, F_DUPFD_CLOEXEC, kHighNumber);
  if (high < 0) return;
  close(fd);
  fd_ = high;
}

DoorbellRinger::~DoorbellRinger() {
  if (fd_ >= 0) close(fd_);
}

void DoorbellRinger::Ring() const {
  if (fd_ < 0) return;
  const char ring = 0;
  // Can fail where the pipe is full, and then it has rung.
  [[maybe_unused]] const ssize_t written = write(fd_, &ring, sizeof(ring));
}

}  // namespace pyinfer
