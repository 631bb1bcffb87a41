// SPDX-License-Identifier: Apache-2.0
// event_stream.h - text/event-stream: bytes in, events out. Source: the HTML standard, "Server-sent events".
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace pyinfer {

class EventHandler {
 public:
  virtual ~EventHandler() = default;
  // The data of one event, its lines joined by line feeds; valid during the call.
  virtual void OnEvent(std::string_view data) = 0;
};

// Reads in any pieces. Names, ids and comments are left out: only data counts. One thread.
class EventStreamReader {
 public:
  // Of the data of one event, and of one line.
  static constexpr size_t kLargestEvent = size_t{16} << 20;

  // False where an event is too large; nothing is to be read then any more.
  bool Read(std::string_view bytes, EventHandler& handler);
  void Clear();

 private:
  bool EndLine(EventHandler& handler);

  std::string line_;
  std::string data_;
  bool has_data_ = false;
  bool after_return_ = false;  // a line feed that follows belongs to the line before it
};

}  // namespace pyinfer
