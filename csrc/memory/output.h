// SPDX-License-Identifier: Apache-2.0
// output.h - a chain of bytes on its way out.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "memory/buffer.h"

namespace pyinfer {

// Bytes for a socket, in order. Small pieces are copied together, large ones are shared.
class Output {
 public:
  static constexpr size_t kShareFrom = 8192;

  Output() = default;
  explicit Output(std::string head) : tail_(std::move(head)), size_(tail_.size()) {}

  void Append(std::string_view bytes) {
    tail_.append(bytes);
    size_ += bytes.size();
  }
  void Append(const Slice& slice);

  // Gives back the room that was left for more: for one that has to wait.
  void Compact() { tail_.shrink_to_fit(); }

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  // All pieces but the last; the last is tail().
  const std::vector<Slice>& pieces() const { return pieces_; }
  const std::string& tail() const { return tail_; }

 private:
  std::vector<Slice> pieces_;
  std::string tail_;
  size_t size_ = 0;
};

}  // namespace pyinfer
