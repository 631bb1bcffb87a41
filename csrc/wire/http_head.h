// SPDX-License-Identifier: Apache-2.0
// http_head.h - the status line and headers of an HTTP/1.1 answer.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pyinfer {

struct HttpHeader {
  std::string_view name;
  std::string_view value;
};

// Appends the head up to and including the empty line, with `Connection: close` where the connection is not kept.
// Without `content_length` there is no Content-Length: the body is chunked, or an answer to HEAD that has none.
// A control character in a header is written as a blank: no value can start another header.
void AppendHttpHead(std::string& out, int status, const std::vector<HttpHeader>& headers,
                    std::optional<size_t> content_length, bool keep_alive);

}  // namespace pyinfer
