// SPDX-License-Identifier: Apache-2.0
// http2_memory.h - where HTTP/2 sessions take their memory: nine blocks a stream, which are used again.
#pragma once

#include <nghttp2/nghttp2.h>

namespace pyinfer {

// To be given to a session. Blocks of one session may be freed by the session on any thread.
nghttp2_mem RecyclingMemory();

}  // namespace pyinfer
