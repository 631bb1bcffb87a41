// SPDX-License-Identifier: Apache-2.0
#include "base/quoted.h"

namespace pyinfer {
namespace {

constexpr size_t kQuotedSize = 256;

}  // namespace

std::string CutForError(std::string_view text) {
  if (text.size() <= kQuotedSize) return std::string(text);
  size_t end = kQuotedSize;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not inside a UTF-8 character
  return std::string(text.substr(0, end)) + "...";
}

std::string QuotedForError(std::string_view text) { return "'" + CutForError(text) + "'"; }

}  // namespace pyinfer
