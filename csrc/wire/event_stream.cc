// SPDX-License-Identifier: Apache-2.0
#include "wire/event_stream.h"

namespace pyinfer {

void EventStreamReader::Clear() {
  line_.clear();
  data_.clear();
  has_data_ = after_return_ = false;
}

bool EventStreamReader::Read(std::string_view bytes, EventHandler& handler) {
  while (!bytes.empty()) {
    if (after_return_ && bytes.front() == '\n') bytes.remove_prefix(1);
    after_return_ = false;
    const size_t end = bytes.find_first_of("\r\n");
    line_.append(bytes.substr(0, end));
    if (line_.size() > kLargestEvent) return false;
    if (end == std::string_view::npos) return true;
    after_return_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    if (!EndLine(handler)) return false;
  }
  return true;
}

bool EventStreamReader::EndLine(EventHandler& handler) {
  if (line_.empty()) {
    if (has_data_) handler.OnEvent(data_);
    data_.clear();
    has_data_ = false;
    return true;
  }
  const std::string_view line = line_;
  const size_t colon = line.find(':');
  if (line.substr(0, colon) == "data") {
    std::string_view value = colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1);
    if (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    if (has_data_) data_ += '\n';
    data_ += value;
    has_data_ = true;
  }
  line_.clear();
  return data_.size() <= kLargestEvent;
}

}  // namespace pyinfer
