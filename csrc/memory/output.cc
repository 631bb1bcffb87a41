// SPDX-License-Identifier: Apache-2.0
#include "memory/output.h"

namespace pyinfer {

void Output::Append(const Slice& slice) {
  if (slice.size() < kShareFrom) {
    Append(slice.view());
    return;
  }
  if (!tail_.empty()) {
    pieces_.emplace_back(Buffer::FromString(std::move(tail_)));
    tail_.clear();
  }
  pieces_.push_back(slice);
  size_ += slice.size();
}

}  // namespace pyinfer
