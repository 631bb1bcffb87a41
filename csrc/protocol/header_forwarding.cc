// SPDX-License-Identifier: Apache-2.0
#include "protocol/header_forwarding.h"

#include <re2/re2.h>

#include <algorithm>
#include <array>

#include "base/quoted.h"
#include "wire/utf8.h"

namespace pyinfer {
namespace {

// Clients choose names: what is remembered of them is bounded.
constexpr size_t kMaxKnown = 256;
constexpr size_t kMaxKnownName = 64;

constexpr std::array<std::string_view, 7> kReserved = {"sequence_id", "sequence_start", "sequence_end",      "priority",
                                                       "timeout",     "headers",        "binary_data_output"};

// Header names have no case, so a proxy may have changed that of a reserved one.
bool Reserved(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return lower.rfind("triton_", 0) == 0 || std::find(kReserved.begin(), kReserved.end(), lower) != kReserved.end();
}

}  // namespace

HeaderForwarding::HeaderForwarding(std::unique_ptr<const re2::RE2> pattern) : pattern_(std::move(pattern)) {}
HeaderForwarding::~HeaderForwarding() = default;

StatusOr<std::unique_ptr<HeaderForwarding>> HeaderForwarding::Make(const std::string& pattern) {
  auto compiled = std::make_unique<const re2::RE2>("(?i)" + pattern, re2::RE2::Quiet);
  if (!compiled->ok()) {
    return Status::InvalidArg("the header forward pattern " + QuotedForError(pattern) +
                              " is not a regular expression of RE2: " + compiled->error());
  }
  return std::unique_ptr<HeaderForwarding>(new HeaderForwarding(std::move(compiled)));
}

HeaderForwarding::Verdict HeaderForwarding::Judge(std::string_view name) const {
  if (!re2::RE2::PartialMatch(re2::StringPiece(name.data(), name.size()), *pattern_)) return Verdict::kKeepBack;
  return Reserved(name) ? Verdict::kReserved : Verdict::kForward;
}

Status HeaderForwarding::Forward(std::string_view name, std::string_view value, Parameters& parameters) {
  const auto found = known_.find(name);
  const Verdict verdict = found != known_.end() ? found->second : Judge(name);
  if (found == known_.end() && name.size() <= kMaxKnownName) {
    if (known_.size() == kMaxKnown) known_.clear();
    known_.emplace(name, verdict);
  }
  if (verdict == Verdict::kKeepBack) return Status();
  if (verdict == Verdict::kReserved) {
    return Status::InvalidArg("Header " + QuotedForError(name) +
                              " is reserved for Triton usage and cannot be forwarded.");
  }
  if (!ValidUtf8(value)) {
    return Status::InvalidArg("Header " + QuotedForError(name) + " cannot be forwarded: its value is not UTF-8 text.");
  }
  parameters.emplace_back(std::string(name), std::string(value));
  return Status();
}

}  // namespace pyinfer
