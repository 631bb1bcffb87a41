// SPDX-License-Identifier: Apache-2.0
#include "protocol/parameters.h"

#include <charconv>

namespace pyinfer {
namespace {

Status WrongType(const std::string& name, std::string_view expected) {
  return Status::InvalidArg("parameter '" + name + "' has invalid type, expecting " + std::string(expected));
}

bool IsUnsigned(const ParameterValue& value) {
  const int64_t* number = std::get_if<int64_t>(&value);
  return number != nullptr && *number >= 0;
}

Status CheckScheduling(const std::string& name, const ParameterValue& value) {
  if (name == "sequence_id") {
    const bool fits = std::holds_alternative<int64_t>(value) || std::holds_alternative<std::string>(value);
    return fits ? Status() : WrongType(name, "an integer or a string");
  }
  if (name == "priority" || name == "timeout") {
    return IsUnsigned(value) ? Status() : WrongType(name, "a non-negative integer");
  }
  return std::holds_alternative<bool>(value) ? Status() : WrongType(name, "a boolean");
}

}  // namespace

bool IsSchedulingParameter(std::string_view name) {
  return name == "sequence_id" || name == "sequence_start" || name == "sequence_end" || name == "priority" ||
         name == "timeout";
}

Status AddParameter(std::string name, ParameterValue value, Request& request) {
  if (IsSchedulingParameter(name)) return CheckScheduling(name, value);
  if (name == "triton_enable_empty_final_response") {
    return std::holds_alternative<bool>(value) ? Status() : WrongType(name, "a boolean");
  }
  if (name.rfind("triton_", 0) == 0) {
    return Status::InvalidArg(
        "parameter keys starting with 'triton_' are reserved for Triton usage and should not be "
        "specified, got '" +
        name + "'");
  }
  request.parameters.emplace_back(std::move(name), std::move(value));
  return Status();
}

Status CheckTensorParameter(std::string_view name, std::string_view tensor) {
  if (name.rfind("shared_memory_", 0) == 0) {
    return Status::InvalidArg("shared memory is not supported by this version: send the data of '" +
                              std::string(tensor) + "' in the request, or ask for it in the response");
  }
  if (name == "classification") {
    return Status::InvalidArg("the classification extension is not supported by this version: ask for output '" +
                              std::string(tensor) + "' without it");
  }
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
