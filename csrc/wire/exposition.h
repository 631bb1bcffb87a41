// SPDX-License-Identifier: Apache-2.0
// exposition.h - writes the text format of Prometheus (version 0.0.4), whatever names and values are in it.
//
// A page is a sequence of families; each begins with Family() and goes on with its samples. Names are the caller's to
// get right; label names and values are made valid here. One thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pyinfer {

// Label pairs as they stand between the braces.
class Labels {
 public:
  // The name becomes LabelName(name); the value is escaped.
  Labels& Add(std::string_view name, std::string_view value);
  Labels& Add(std::string_view name, double value);

  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// `name` as a label can be called: characters that it can not have, and a digit at its begin, become '_', but not two
// at the begin, which Prometheus keeps for itself.
std::string LabelName(std::string_view name);

class Exposition {
 public:
  // What follows are samples of `name`. A family without samples leaves no trace on the page.
  void Family(std::string_view name, std::string_view help, std::string_view type);

  // A sample of the present family, whose name is continued by `suffix`. It has `labels`, and `more` behind them.
  void Sample(std::string_view suffix, const Labels& labels, uint64_t value, const Labels& more = {});
  void Sample(std::string_view suffix, const Labels& labels, double value, const Labels& more = {});

  std::string Take() { return std::move(text_); }

 private:
  void Begin(std::string_view suffix, const Labels& labels, const Labels& more);

  std::string head_;  // of the present family, until it has a sample
  std::string name_;
  std::string text_;
};

}  // namespace pyinfer
