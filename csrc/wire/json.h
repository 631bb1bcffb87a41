// SPDX-License-Identifier: Apache-2.0
// json.h - JSON text <-> a checked tree of values. Knows nothing of what the members mean.
//
// Reading is strict and linear: the whole document is checked before any of it is used (syntax, UTF-8, surrogate pairs,
// depth, nothing behind the value). Duplicate members are found per object, by whoever reads that object.
#pragma once

#include <simdjson.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace pyinfer {

using JsonValue = simdjson::dom::element;
using JsonObject = simdjson::dom::object;
using JsonArray = simdjson::dom::array;
using JsonType = simdjson::dom::element_type;

// One parsed document. Values are views into it: they must not outlive it. Documents of one thread share the parser's
// memory; that of a large document is given back at once.
class JsonDocument {
 public:
  static constexpr size_t kMaxDepth = 100;
  // Parser memory for documents larger than this is not kept.
  static constexpr size_t kKeepUpTo = size_t{1} << 20;

  JsonDocument();
  ~JsonDocument();
  JsonDocument(const JsonDocument&) = delete;
  JsonDocument& operator=(const JsonDocument&) = delete;

  // Requires: kBufferPadding readable bytes behind `text`. Nothing is copied. InvalidArg with a text that says what is
  // wrong.
  Status Parse(std::string_view text);
  // Requires: Parse succeeded.
  JsonValue root() const { return root_; }

 private:
  std::unique_ptr<simdjson::dom::parser> parser_;
  JsonValue root_;
};

// The most members that an object may have whose members are read.
inline constexpr size_t kJsonMaxMembers = 65536;

// InvalidArg where two members of `object` have one name, or there are more than kJsonMaxMembers.
// `what` names the object.
Status CheckJsonMembers(const JsonObject& object, std::string_view what);

// `text` in quotes; quotes, backslashes and control characters escaped. Other bytes are passed on as they are, so that
// text that is not UTF-8 reaches the client unchanged.
void AppendJsonString(std::string& out, std::string_view text);

}  // namespace pyinfer
