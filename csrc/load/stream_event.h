// SPDX-License-Identifier: Apache-2.0
// stream_event.h - what one event of an answer that is streamed over HTTP says.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "load/session.h"

namespace pyinfer {

struct StreamEvent {
  std::string error;         // of the server, in its words; empty where there is none
  bool is_response = false;  // it brings output, and does not only frame it
  uint64_t tokens = 0;       // of output, of the whole request; 0: it does not say
};

// Reads whatever came. For kOpenAi `data` may also be the whole answer of a request that is not streamed. What a chunk
// brings of the text of the first choice goes behind `text`, where there is one.
StreamEvent ReadStreamEvent(EventGrammar grammar, std::string_view data, std::string* text = nullptr);

// The message of the first choice of a whole answer, an object of JSON; empty where it has none.
std::string MessageOfAnswer(std::string_view answer);
// The message of an answer that came in chunks with this text.
std::string MessageOfText(std::string_view text);

}  // namespace pyinfer
