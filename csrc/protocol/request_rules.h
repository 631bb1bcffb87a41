// SPDX-License-Identifier: Apache-2.0
// request_rules.h - rules about the texts of clients that are the same in every protocol.
#pragma once

#include <string_view>

#include "base/quoted.h"
#include "base/status.h"

namespace pyinfer {

// An id is repeated in answers, error texts and logs: it is at most this long and has no control characters.
inline constexpr size_t kMaxRequestIdSize = 4096;
Status CheckRequestId(std::string_view id);

}  // namespace pyinfer
