// SPDX-License-Identifier: Apache-2.0
// quoted.h - names that a client gave, as error texts repeat them.
#pragma once

#include <string>
#include <string_view>

namespace pyinfer {

// `text`, cut where it is too long for an error text.
[[gnu::cold]] std::string CutForError(std::string_view text);

// The same in single quotes.
[[gnu::cold]] std::string QuotedForError(std::string_view text);

}  // namespace pyinfer
