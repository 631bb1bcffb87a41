// SPDX-License-Identifier: Apache-2.0
// call_parent.h - a request on whose behalf a model calls another one: what such a call goes by.
#pragma once

#include <cstdint>
#include <memory>

#include "infer/completion.h"
#include "infer/request.h"

namespace pyinfer {

// A copy: the request may be answered and gone while the call is still under way.
struct CallParent {
  std::weak_ptr<const CompletionSink> sink;  // knows whether anybody still waits for the request
  uint32_t depth = 0;
  uint64_t timeout_us = 0;
  TimeNs queued = 0;

  static CallParent Of(const Request& request) {
    return {request.sink(), request.call_depth, request.timeout_us, request.timeline.queued};
  }
};

}  // namespace pyinfer
