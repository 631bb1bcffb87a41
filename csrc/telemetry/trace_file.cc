// SPDX-License-Identifier: Apache-2.0
#include "telemetry/trace_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace pyinfer {
namespace {

// Not blocking: a pipe that nobody reads must not hold the writer; for files it means nothing.
constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK;
constexpr mode_t kMode = 0644;

// 0 or an errno.
int WriteAt(int fd, std::string_view bytes, off_t offset) {
  while (!bytes.empty()) {
    const ssize_t count = pwrite(fd, bytes.data(), bytes.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return count < 0 ? errno : ENOSPC;
    bytes.remove_prefix(static_cast<size_t>(count));
    offset += count;
  }
  return 0;
}

}  // namespace

TraceFile::~TraceFile() { Close(); }

void TraceFile::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
  size_ = 0;
}

bool TraceFile::StillThere() const {
  struct stat status{};
  if (stat(path_.c_str(), &status) != 0) return errno != ENOENT;
  return status.st_dev == device_ && status.st_ino == inode_;
}

int TraceFile::Append(std::string_view entries) {
  if (fd_ >= 0 && !StillThere()) Close();
  if (fd_ < 0) {
    fd_ = open(path_.c_str(), kFlags, kMode);
    if (fd_ < 0) return errno;
    struct stat status{};
    if (fstat(fd_, &status) == 0) {
      device_ = status.st_dev;
      inode_ = status.st_ino;
    }
  }
  // Over the closing bracket of what is there.
  const off_t offset = size_ == 0 ? 0 : size_ - 1;
  std::string text(1, size_ == 0 ? '[' : ',');
  text.append(entries);
  text += ']';
  const int error = WriteAt(fd_, text, offset);
  if (error == 0) {
    size_ = offset + static_cast<off_t>(text.size());
    return 0;
  }
  // The place of the bracket is ours already, however full the disk is.
  const bool restored = ftruncate(fd_, offset) == 0 && (size_ == 0 || WriteAt(fd_, "]", offset) == 0);
  if (!restored) Close();
  return error;
}

int TraceFile::WriteIndexed(std::string_view entries) {
  const std::string path = path_ + "." + std::to_string(next_index_);
  const int fd = open(path.c_str(), kFlags, kMode);
  if (fd < 0) return errno;
  std::string text(1, '[');
  text.append(entries);
  text += ']';
  int error = WriteAt(fd, text, 0);
  if (close(fd) != 0 && error == 0) error = errno;
  if (error != 0) {
    unlink(path.c_str());
    return error;
  }
  ++next_index_;
  return 0;
}

}  // namespace pyinfer
