// SPDX-License-Identifier: Apache-2.0
// burst.h - what a thread puts off until it is done with what it is doing.
//
// Answering one request may give another model work. Whoever answers several, or holds a lock, opens a Burst: what is
// asked for meanwhile is done once, when the outermost Burst of the thread ends. What is done then may ask for more,
// which is done after it, not inside it: however long the chain, the stack stays flat.
#pragma once

#include <memory>

namespace pyinfer {

class Deferred {
 public:
  virtual ~Deferred() = default;
  virtual void RunDeferred() = 0;
};

class Burst {
 public:
  Burst() noexcept;
  ~Burst();
  Burst(const Burst&) = delete;
  Burst& operator=(const Burst&) = delete;

  // Has `work` run when the thread's outermost Burst ends, or at once where there is none. Asked for again before it
  // has begun, it runs once.
  static void AtEnd(std::shared_ptr<Deferred> work);
};

}  // namespace pyinfer
