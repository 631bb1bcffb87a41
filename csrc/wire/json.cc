// SPDX-License-Identifier: Apache-2.0
#include "wire/json.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <vector>

namespace pyinfer {
namespace {

using Parser = simdjson::dom::parser;

// Parsers start with room for this much, so that documents of slightly different sizes do not each enlarge it.
constexpr size_t kFirstCapacity = size_t{16} << 10;
// Up to here comparing all pairs of names is quicker than sorting them.
constexpr size_t kComparePairs = 24;

// The parser that this thread's next document will use; null while a document has it.
std::unique_ptr<Parser>& SpareParser() {
  thread_local std::unique_ptr<Parser> parser;
  return parser;
}

// The value of four hexadecimal digits. Requires: they are digits, as the parser has checked.
unsigned HexValue(const char* digits) {
  unsigned value = 0;
  std::from_chars(digits, digits + 4, value, 16);
  return value;
}

// Whether each surrogate written as an escape has its other half. Requires: `text` is a well-formed document otherwise,
// so that backslashes are only found in strings.
bool SurrogatesArePaired(std::string_view text) {
  const char* at = text.data();
  const char* const end = at + text.size();
  while ((at = static_cast<const char*>(std::memchr(at, '\\', static_cast<size_t>(end - at)))) != nullptr) {
    if (end - at < 6 || at[1] != 'u') {
      at += 2;
      if (at >= end) return true;
      continue;
    }
    const unsigned unit = HexValue(at + 2);
    at += 6;
    if (unit < 0xD800 || unit > 0xDFFF) continue;
    if (unit > 0xDBFF || end - at < 6 || at[0] != '\\' || at[1] != 'u') return false;
    const unsigned low = HexValue(at + 2);
    if (low < 0xDC00 || low > 0xDFFF) return false;
    at += 6;
  }
  return true;
}

Status ParseError(std::string_view reason) {
  return Status::InvalidArg("failed to parse the request JSON buffer: " + std::string(reason));
}

std::string_view Reason(simdjson::error_code error) {
  switch (error) {
    case simdjson::EMPTY:
      return "The document is empty.";
    case simdjson::DEPTH_ERROR:
      return "The document is nested more than 100 levels deep.";
    case simdjson::UTF8_ERROR:
      return "Invalid encoding in string: the document is not UTF-8.";
    case simdjson::NUMBER_ERROR:
      return "Invalid number, or a number that is too large to be stored.";
    case simdjson::STRING_ERROR:
      return "Invalid string or escape sequence.";
    case simdjson::UNCLOSED_STRING:
      return "Missing a closing quotation mark in string.";
    case simdjson::UNESCAPED_CHARS:
      return "Control characters in a string must be escaped.";
    case simdjson::CAPACITY:
    case simdjson::MEMALLOC:
      return "The document is too large.";
    default:
      return "Invalid value, or something other than one document.";
  }
}

}  // namespace

JsonDocument::JsonDocument() : parser_(std::move(SpareParser())) {
  if (!parser_) parser_ = std::make_unique<Parser>();
}

JsonDocument::~JsonDocument() {
  if (parser_->capacity() <= kKeepUpTo) SpareParser() = std::move(parser_);
}

Status JsonDocument::Parse(std::string_view text) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF") return ParseError("The document starts with a byte order mark.");
  if (parser_->capacity() == 0) {
    // The depth limit is set with the first allocation and kept by later ones.
    if (parser_->allocate(kFirstCapacity, kMaxDepth) != simdjson::SUCCESS)
      return ParseError(Reason(simdjson::MEMALLOC));
  }
  const simdjson::error_code error = parser_->parse(text.data(), text.size(), false).get(root_);
  if (error != simdjson::SUCCESS) return ParseError(Reason(error));
  if (!SurrogatesArePaired(text)) return ParseError("The surrogate pair in string is invalid.");
  return Status();
}

Status CheckJsonMembers(const JsonObject& object, std::string_view what) {
  const size_t count = object.size();
  if (count > kJsonMaxMembers) {
    return ParseError(std::string(what) + " has more than " + std::to_string(kJsonMaxMembers) + " members.");
  }
  const auto duplicate = [&] { return ParseError("Duplicate member name in " + std::string(what) + "."); };
  if (count <= kComparePairs) {
    std::string_view names[kComparePairs];
    size_t seen = 0;
    for (const auto field : object) {
      for (size_t i = 0; i < seen; ++i) {
        if (names[i] == field.key) return duplicate();
      }
      names[seen++] = field.key;
    }
    return Status();
  }
  std::vector<std::string_view> names;
  names.reserve(count);
  for (const auto field : object) names.push_back(field.key);
  std::sort(names.begin(), names.end());
  if (std::adjacent_find(names.begin(), names.end()) != names.end()) return duplicate();
  return Status();
}

void AppendJsonString(std::string& out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  size_t plain = 0;  // start of what has not been copied yet
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    out.append(text, plain, i - plain);
    plain = i + 1;
    out += '\\';
    switch (c) {
      case '"':
      case '\\':
        out += static_cast<char>(c);
        break;
      case '\n':
        out += 'n';
        break;
      case '\r':
        out += 'r';
        break;
      case '\t':
        out += 't';
        break;
      default:
        out += "u00";
        out += kHex[c >> 4];
        out += kHex[c & 15];
    }
  }
  out.append(text, plain, text.size() - plain);
  out += '"';
}

}  // namespace pyinfer
