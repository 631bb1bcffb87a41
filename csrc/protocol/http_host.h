// SPDX-License-Identifier: Apache-2.0
// http_host.h - what the answers of an HTTP/1.1 connection need of it. Loop thread, unless told.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "memory/output.h"

namespace pyinfer {

class Mailbox;
class Trace;

// An answer is named by its place in the connection's order; one whose place is gone, or ended, is ignored.
class HttpHost {
 public:
  virtual ~HttpHost() = default;
  virtual Mailbox& mailbox() = 0;
  // The client is gone. Any thread.
  virtual bool closed() const noexcept = 0;
  // The whole answer. `close`: nothing is sent after it, here and below.
  virtual void Fill(uint64_t place, Output answer, bool close, std::shared_ptr<Trace> trace) = 0;
  // The next part of a streamed answer; `trace` (null where there is none) is told when it has left in full.
  virtual void Stream(uint64_t place, Output part, std::shared_ptr<Trace> trace) = 0;
  // The end of a streamed answer, after the parts that were given before.
  virtual void End(uint64_t place, bool close) = 0;
  // The same at once, with `last` to say why: parts that have not begun to leave are dropped.
  virtual void Break(uint64_t place, Output last, bool close) = 0;
  // Bytes of streamed answers that the client has not taken, over all of the connection; and whether these are so many
  // that no more may be kept for it.
  virtual size_t unsent() const = 0;
  virtual bool overrun() const = 0;
};

}  // namespace pyinfer
