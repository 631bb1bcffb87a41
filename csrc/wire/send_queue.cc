// SPDX-License-Identifier: Apache-2.0
#include "wire/send_queue.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace pyinfer {
namespace {

// With so many parts before it one has to wait, and there will be more: the receiver is behind.
constexpr size_t kMany = 64;

}  // namespace

void SendQueue::Add(Output part) {
  if (part.empty()) return;
  size_ += part.size();
  if (parts_.size() - part_ >= kMany) part.Compact();
  parts_.push_back(std::move(part));
}

void SendQueue::MoveTo(Output& output, size_t count) {
  size_ -= count;
  while (count != 0) {
    const Output& from = parts_[part_];
    const bool in_tail = piece_ == from.pieces().size();
    const size_t available = (in_tail ? from.tail().size() : from.pieces()[piece_].size()) - offset_;
    const size_t now = std::min(available, count);
    if (in_tail) {
      output.Append(std::string_view(from.tail()).substr(offset_, now));
    } else {
      output.Append(from.pieces()[piece_].Sub(offset_, now));
    }
    offset_ += now;
    count -= now;
    if (now < available) return;
    offset_ = 0;
    ++piece_;
    if (in_tail || (piece_ == from.pieces().size() && from.tail().empty())) NextPart();
  }
}

void SendQueue::NextPart() {
  parts_[part_++] = Output();
  piece_ = 0;
  // The slots of sent parts are given back when they are all of them, or most of many.
  if (part_ == parts_.size() || (part_ >= kMany && part_ * 2 > parts_.size())) {
    parts_.erase(parts_.begin(), parts_.begin() + static_cast<std::ptrdiff_t>(part_));
    part_ = 0;
  }
}

size_t SendQueue::SentOfPart() const {
  if (piece_ == 0) return offset_;
  size_t sent = offset_;
  for (size_t i = 0; i < piece_; ++i) sent += parts_[part_].pieces()[i].size();
  return sent;
}

size_t SendQueue::Drop(size_t promised) {
  const size_t sent = SentOfPart();
  const size_t wanted = sent == 0 ? promised : sent + std::max<size_t>(promised, 1);
  size_t kept = 0;
  size_t end = part_;
  while (kept < wanted && end < parts_.size()) kept += parts_[end++].size();
  parts_.resize(end);
  kept -= std::min(kept, sent);
  return std::exchange(size_, kept) - kept;
}

}  // namespace pyinfer
