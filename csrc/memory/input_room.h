// SPDX-License-Identifier: Apache-2.0
// input_room.h - memory in which large inputs of a model are best received: where who executes it reads them.
#pragma once

#include <cstddef>

#include "memory/buffer.h"

namespace pyinfer {

class InputRoom {
 public:
  virtual ~InputRoom() = default;
  // Memory for one input; null where there is none, and the input is received elsewhere. Somebody else can read it, and
  // write to it, as soon as it is there: it is `foreign`. Any thread.
  virtual BufferPtr Allocate(size_t size) = 0;
};

}  // namespace pyinfer
