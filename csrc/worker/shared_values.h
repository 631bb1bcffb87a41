// SPDX-License-Identifier: Apache-2.0
// shared_values.h - numbers that a server and the worker processes of one model share, in memory that has no name.
//
// Which number is what is the server's to say, and kept in its own books: whoever else writes here can spoil numbers of
// its own model and nothing more. A change is one atomic operation.
#pragma once

#include <cstddef>
#include <memory>

#include "base/status.h"
#include "worker/lane.h"

namespace pyinfer {

// Any thread, and any process.
class SharedValues {
 public:
  static constexpr size_t kCount = 131'072;

  static StatusOr<std::shared_ptr<SharedValues>> Create();
  // Those that another process has made; takes `fd` over.
  static StatusOr<std::shared_ptr<SharedValues>> Adopt(int fd);

  int fd() const { return memory_->fd(); }
  // Requires of them: index < kCount.
  double Get(size_t index) const;
  void Set(size_t index, double value);
  void Add(size_t index, double amount);

 private:
  explicit SharedValues(LaneMemoryPtr memory) : memory_(std::move(memory)) {}

  const LaneMemoryPtr memory_;
};

}  // namespace pyinfer
