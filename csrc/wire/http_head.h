// SPDX-License-Identifier: Apache-2.0
// http_head.h - the status line and headers of an HTTP/1.1 answer.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace pyinfer {

struct HttpHeader {
  std::string_view name;
  std::string_view value;
};

// Appends the head up to and including the empty line. Content-Length is always written, `Connection: close` where the
// connection is not kept. A control character in a header is written as a blank: no value can start another header.
void AppendHttpHead(std::string& out, int status, const std::vector<HttpHeader>& headers, size_t content_length,
                    bool keep_alive);

}  // namespace pyinfer
