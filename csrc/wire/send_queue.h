// SPDX-License-Identifier: Apache-2.0
// send_queue.h - outputs on their way out, of which a receiver takes as many bytes at a time as it has room for.
#pragma once

#include <cstddef>
#include <vector>

#include "memory/output.h"

namespace pyinfer {

class SendQueue {
 public:
  void Add(Output part);
  // Bytes that are not sent yet.
  size_t size() const { return size_; }
  // Appends the next `count` bytes to `output`. Requires: count <= size().
  void MoveTo(Output& output, size_t count);
  // Forgets the parts behind the next `promised` bytes: one that is begun, or promised in part, is sent to its end.
  // Returns how many bytes that were.
  size_t Drop(size_t promised);

 private:
  // Bytes of the current part that were sent.
  size_t SentOfPart() const;
  void NextPart();

  std::vector<Output> parts_;  // none is empty
  size_t part_ = 0;            // the one that is being sent
  size_t piece_ = 0;           // in its pieces(); == their number: in the tail
  size_t offset_ = 0;          // in that piece
  size_t size_ = 0;
};

}  // namespace pyinfer
