// SPDX-License-Identifier: Apache-2.0
// trace_file.h - files of traces: <file>, which grows, and <file>.0, <file>.1, ..., each written once.
//
// Each file is a JSON array whenever somebody looks at it, also after the disk was full. A file that was deleted or
// replaced by others is begun anew. One thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace pyinfer {

class TraceFile {
 public:
  explicit TraceFile(std::string path) : path_(std::move(path)) {}
  ~TraceFile();
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;

  const std::string& path() const { return path_; }

  // Adds entries, with commas between them, to <file>; its first use truncates what is there. 0, or the errno of why
  // they were not written: then the file is as it was.
  int Append(std::string_view entries);
  // Writes entries to the next <file>.N. 0, or an errno: then N will be used again.
  int WriteIndexed(std::string_view entries);

 private:
  bool StillThere() const;
  void Close();

  const std::string path_;
  uint64_t next_index_ = 0;
  int fd_ = -1;  // of <file>
  off_t size_ = 0;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace pyinfer
