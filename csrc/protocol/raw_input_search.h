// SPDX-License-Identifier: Apache-2.0
// raw_input_search.h - finds the large raw tensors of a ModelInferRequest while it is still being received.
//
// It reads what has come of the message once, field by field, as far as that goes, and finds a tensor when its length
// is there. What makes no sense ends the search: whoever reads the whole message tells what is wrong with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "memory/message_buffer.h"

namespace pyinfer {

class RawInputSearch {
 public:
  // [offset, offset + size) of the message are the data of an input of that model.
  struct Found {
    size_t offset;
    size_t size;
  };

  // The next one of `least` bytes or more of which not everything has come, and for whose room enough has come.
  std::optional<Found> Next(const MessageBuffer& message, size_t least);
  // What the message says before its first tensor. -1: it names no version.
  const std::string& model() const { return model_; }
  int64_t version() const { return version_; }

 private:
  // The next field, of which at least the head has come; false where that is still to come, or the search is over.
  struct Field {
    uint32_t tag = 0;
    std::string_view value;  // as far as it has come
    uint64_t size = 0;       // of all of the value
    size_t offset = 0;       // of the value
  };
  bool ReadHead(std::string_view begun, Field& field);
  // False where the search is over, or not all of the value has come.
  bool ReadName(const Field& field);

  std::string model_;
  int64_t version_ = -1;
  size_t at_ = 0;  // where the next field begins
  bool over_ = false;
};

}  // namespace pyinfer
