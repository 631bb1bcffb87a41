// SPDX-License-Identifier: Apache-2.0
// pool.h - reuse of buffers, so that a steady load allocates nothing.
//
// Blocks are kept in power-of-two classes. Small blocks are left to malloc, which is as fast; very large ones are
// returned to the system at once. What the pool keeps is bounded. Any thread.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "memory/buffer.h"

namespace pyinfer {

class Pool {
 public:
  explicit Pool(size_t max_kept_bytes);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // The pool of the process; never destroyed, because buffers may outlive everything else.
  static Pool& Default();

  BufferPtr Allocate(size_t size);
  size_t kept_bytes() const;

 private:
  friend class PooledBuffer;
  static constexpr size_t kSmallestClass = 14;  // 16 KiB
  static constexpr size_t kLargestClass = 26;   // 64 MiB

  void Release(uint8_t* block, size_t size_class);

  const size_t max_kept_bytes_;
  mutable std::mutex mutex_;
  size_t kept_bytes_ = 0;
  std::array<std::vector<uint8_t*>, kLargestClass + 1> free_;
};

}  // namespace pyinfer
