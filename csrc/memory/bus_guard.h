// SPDX-License-Identifier: Apache-2.0
// bus_guard.h - survives that somebody else shortens a file that is mapped here.
//
// Reading or writing a mapped page that its file no longer has raises SIGBUS, which ends the process. A watched range
// is different: the handler puts zero pages of our own in the place of what is gone, notes that the range is broken,
// and lets the access go on. Whoever uses the range asks broken() before it believes what it has read. Faults elsewhere
// go to the handler that was there before. Any thread.
#pragma once

#include <cstddef>

namespace pyinfer {

class BusGuard {
 public:
  // Watches [data, data + size), which is mapped and starts at a page. Unwatch it before it is unmapped.
  BusGuard(void* data, size_t size);
  ~BusGuard();
  BusGuard(const BusGuard&) = delete;
  BusGuard& operator=(const BusGuard&) = delete;

  // True once a page was found missing. It stays so.
  bool broken() const;

  struct Range;

 private:
  Range* const range_;
};

}  // namespace pyinfer
