// SPDX-License-Identifier: Apache-2.0
// known_heads.h - heads of HTTP requests that were understood before, by their bytes.
//
// Clients send the same head again and again. Whoever has parsed one tells it here, and HttpConnection::Take serves
// requests that begin with it without anybody parsing. Clients choose the heads, so what is kept is bounded: two
// generations of at most `capacity`, of which the older goes when the younger is full. Loop thread.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "protocol/http_connection.h"

namespace pyinfer {

class KnownHeads {
 public:
  struct Known {
    std::string bytes;  // up to and with the empty line
    std::shared_ptr<const HttpConnection::InferHead> head;
    size_t length = 0;  // of the body that follows
  };

  explicit KnownHeads(size_t capacity) : capacity_(capacity) {}

  // Ignored where requests with that head need a closer look: they end their connection, or their body is compressed.
  void Add(std::string_view bytes, std::shared_ptr<const HttpConnection::InferHead> head, size_t length);
  // Valid until the next call; null where the head is not known.
  const Known* Find(std::string_view bytes);

 private:
  // A key is the bytes of its value.
  using Generation = std::unordered_map<std::string_view, std::unique_ptr<Known>>;

  const size_t capacity_;
  Generation young_, old_;
};

}  // namespace pyinfer
