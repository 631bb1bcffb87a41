// SPDX-License-Identifier: Apache-2.0
// utf8.h - is this text? Protobuf strings and JSON must be valid UTF-8.
#pragma once

#include <string_view>

namespace pyinfer {

bool ValidUtf8(std::string_view text);

}  // namespace pyinfer
