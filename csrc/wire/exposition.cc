// SPDX-License-Identifier: Apache-2.0
#include "wire/exposition.h"

#include <array>
#include <charconv>
#include <cmath>

namespace pyinfer {
namespace {

void AppendEscaped(std::string& text, std::string_view value, bool quotes) {
  for (const char c : value) {
    if (c == '\\') {
      text += "\\\\";
    } else if (c == '\n') {
      text += "\\n";
    } else if (c == '"' && quotes) {
      text += "\\\"";
    } else {
      text += c;
    }
  }
}

template <typename Number>
void AppendDigits(std::string& text, Number value) {
  std::array<char, 32> digits;
  text.append(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr);
}

void AppendNumber(std::string& text, double value) {
  if (std::isnan(value)) {
    text += "NaN";
  } else if (std::isinf(value)) {
    text += value > 0 ? "+Inf" : "-Inf";
  } else {
    AppendDigits(text, value);
  }
}

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

}  // namespace

std::string LabelName(std::string_view name) {
  std::string valid;
  for (const char c : name) {
    const bool digit = c >= '0' && c <= '9';
    const char fitting = IsLetter(c) || (digit && !valid.empty()) ? c : '_';
    if (fitting != '_' || valid != "_") valid += fitting;
  }
  return valid;
}

Labels& Labels::Add(std::string_view name, std::string_view value) {
  if (!text_.empty()) text_ += ',';
  text_ += LabelName(name);
  text_ += "=\"";
  AppendEscaped(text_, value, /*quotes=*/true);
  text_ += '"';
  return *this;
}

Labels& Labels::Add(std::string_view name, double value) {
  std::string text;
  AppendNumber(text, value);
  return Add(name, text);
}

void Exposition::Family(std::string_view name, std::string_view help, std::string_view type) {
  name_ = name;
  head_ = "# HELP ";
  head_ += name;
  head_ += ' ';
  AppendEscaped(head_, help, /*quotes=*/false);
  head_ += "\n# TYPE ";
  head_ += name;
  head_ += ' ';
  head_ += type;
  head_ += '\n';
}

void Exposition::Begin(std::string_view suffix, const Labels& labels, const Labels& more) {
  text_ += head_;
  head_.clear();
  text_ += name_;
  text_ += suffix;
  const bool both = !labels.text().empty() && !more.text().empty();
  if (!labels.text().empty() || !more.text().empty()) {
    text_ += '{';
    text_ += labels.text();
    if (both) text_ += ',';
    text_ += more.text();
    text_ += '}';
  }
  text_ += ' ';
}

void Exposition::Sample(std::string_view suffix, const Labels& labels, uint64_t value, const Labels& more) {
  Begin(suffix, labels, more);
  AppendDigits(text_, value);
  text_ += '\n';
}

void Exposition::Sample(std::string_view suffix, const Labels& labels, double value, const Labels& more) {
  Begin(suffix, labels, more);
  AppendNumber(text_, value);
  text_ += '\n';
}

}  // namespace pyinfer
