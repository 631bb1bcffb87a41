// SPDX-License-Identifier: Apache-2.0
#include "protocol/request_rules.h"

#include <algorithm>

namespace pyinfer {

Status CheckRequestId(std::string_view id) {
  if (id.size() > kMaxRequestIdSize) {
    return Status::InvalidArg("the request id has " + std::to_string(id.size()) + " bytes, at most " +
                              std::to_string(kMaxRequestIdSize) + " are allowed");
  }
  const bool control = std::any_of(id.begin(), id.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
  return control ? Status::InvalidArg("the request id contains a control character") : Status();
}

}  // namespace pyinfer
