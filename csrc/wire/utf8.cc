// SPDX-License-Identifier: Apache-2.0
#include "wire/utf8.h"

#include <simdjson.h>

#include <algorithm>

namespace pyinfer {

bool ValidUtf8(std::string_view text) {
  const auto ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  if (text.size() < 64 && std::all_of(text.begin(), text.end(), ascii)) return true;
  return simdjson::validate_utf8(text.data(), text.size());
}

}  // namespace pyinfer
