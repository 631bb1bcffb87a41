// SPDX-License-Identifier: Apache-2.0
// http_place.h - one answer in the order of a connection's answers: whole, or in parts as they are made. Loop thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>

#include "infer/trace.h"
#include "memory/output.h"
#include "wire/send_queue.h"

namespace pyinfer {

// Set where nobody waits any more for the answer that somebody else is making. Any thread.
using CancelFlag = std::shared_ptr<std::atomic<bool>>;

class HttpPlace {
 public:
  // The whole answer, or the end of a streamed one; nothing may follow. `close`: neither may another answer. A whole
  // one may also come where a stream was meant to, but has no part.
  void Fill(Output answer, bool close, std::shared_ptr<Trace> trace);
  void End(bool close);
  bool complete() const { return complete_; }
  bool closes() const { return close_; }

  // From here on the answer comes in parts. `cancelled` tells its maker that they are not wanted any more.
  void BeginStream(CancelFlag cancelled);
  bool streams() const { return stream_ != nullptr; }
  void Add(Output part, std::shared_ptr<Trace> trace);
  // Tells the maker of a streamed answer to stop, and drops the parts that have not begun to leave, but for the first.
  void Cancel();
  // Bytes of parts that were not taken.
  size_t unsent() const { return stream_ ? stream_->parts.size() : 0; }

  bool has_output() const { return complete_ || unsent() != 0; }
  // Moves what there is to `output`, as much as that may hold; false where more is left.
  bool MoveTo(Output& output);

 private:
  struct Stream {
    CancelFlag cancelled;
    SendQueue parts;
    uint64_t taken = 0;  // bytes, ever
    struct Sent {
      uint64_t at;  // `taken` once the part has left
      std::shared_ptr<Trace> trace;
    };
    std::deque<Sent> sends;  // of traced requests
  };

  bool MoveStreamTo(Output& output);

  bool complete_ = false;
  bool close_ = false;
  Output answer_;
  size_t piece_ = 0;   // of the answer, the first that was not handed out yet
  size_t offset_ = 0;  // in that piece
  std::shared_ptr<Trace> trace_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace pyinfer
