// SPDX-License-Identifier: Apache-2.0
#include "protocol/parameters.h"

#include <charconv>
#include <optional>
#include <utility>

#include "base/quoted.h"

namespace pyinfer {
namespace {

constexpr std::string_view kEmptyFinalResponse = "triton_enable_empty_final_response";
constexpr size_t kMaxCorrelationId = 128;

Status WrongType(const std::string& name, std::string_view expected) {
  return Status::InvalidArg("parameter '" + name + "' has invalid type, expecting " + std::string(expected));
}

std::optional<uint64_t> Unsigned(const ParameterValue& value) {
  if (const uint64_t* number = std::get_if<uint64_t>(&value)) return *number;
  const int64_t* number = std::get_if<int64_t>(&value);
  if (number == nullptr || *number < 0) return std::nullopt;
  return static_cast<uint64_t>(*number);
}

Status ReadCorrelationId(ParameterValue value, CorrelationId& id) {
  if (std::string* text = std::get_if<std::string>(&value)) {
    if (text->size() > kMaxCorrelationId) {
      return Status::Unsupported("string correlation ID cannot be longer than " + std::to_string(kMaxCorrelationId) +
                                 " characters");
    }
    id.text = std::move(*text);
  } else if (const uint64_t* number = std::get_if<uint64_t>(&value)) {
    id.number = *number;
  } else if (const int64_t* number = std::get_if<int64_t>(&value)) {
    id.number = static_cast<uint64_t>(*number);  // gRPC has it signed: the bits are the id
  } else {
    return WrongType("sequence_id", "an integer or a string");
  }
  return Status();
}

Status ReadScheduling(const std::string& name, ParameterValue value, Request& request) {
  if (name == "sequence_id") return ReadCorrelationId(std::move(value), request.correlation_id);
  if (name == "priority" || name == "timeout") {
    const auto number = Unsigned(value);
    if (!number) return WrongType(name, "a non-negative integer");
    (name == "priority" ? request.priority : request.timeout_us) = *number;
    return Status();
  }
  const bool* flag = std::get_if<bool>(&value);
  if (flag == nullptr) return WrongType(name, "a boolean");
  if (*flag) request.flags |= name == "sequence_start" ? kSequenceStart : kSequenceEnd;
  return Status();
}

}  // namespace

bool IsSchedulingParameter(std::string_view name) {
  return name == "sequence_id" || name == "sequence_start" || name == "sequence_end" || name == "priority" ||
         name == "timeout";
}

Status CheckParameterName(std::string_view name) {
  if (name.rfind("triton_", 0) != 0 || name == kEmptyFinalResponse) return Status();
  return Status::InvalidArg(
      "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified, got " +
      QuotedForError(name));
}

Status AddParameter(std::string name, ParameterValue value, Request& request) {
  if (IsSchedulingParameter(name)) return ReadScheduling(name, std::move(value), request);
  if (name == kEmptyFinalResponse) {
    const bool* flag = std::get_if<bool>(&value);
    if (flag == nullptr) return WrongType(name, "a boolean");
    request.wants_empty_final_response = *flag;
    return Status();
  }
  if (Status status = CheckParameterName(name); !status.ok()) return status;
  request.parameters.emplace_back(std::move(name), std::move(value));
  return Status();
}

StatusOr<int64_t> ParseVersion(std::string_view text) {
  if (text.empty()) return int64_t{-1};
  int64_t version = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), version);
  if (error == std::errc::result_out_of_range && text[0] != '-' && end == text.data() + text.size()) {
    return Status::NotFound("Request for unknown model: version " + std::string(text.substr(0, 64)) + " is not found");
  }
  if (error != std::errc() || end != text.data() + text.size() || version < 0) {
    const std::string shown(text.substr(0, 64));
    return Status::InvalidArg("failed to get model version from specified version string '" + shown +
                              "' (version must be a non-negative integer)");
  }
  return version;
}

}  // namespace pyinfer
