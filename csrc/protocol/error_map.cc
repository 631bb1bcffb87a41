// SPDX-License-Identifier: Apache-2.0
#include "protocol/error_map.h"

namespace pyinfer {

const std::vector<ErrorRow>& ErrorTable() {
  static const std::vector<ErrorRow> table = {
      {Code::kOk, "OK", 200, 0},
      {Code::kUnknown, "UNKNOWN", 400, 2},
      {Code::kInternal, "INTERNAL", 500, 13},
      {Code::kNotFound, "NOT_FOUND", 404, 5},
      {Code::kInvalidArg, "INVALID_ARG", 400, 3},
      {Code::kUnavailable, "UNAVAILABLE", 503, 14},
      {Code::kUnsupported, "UNSUPPORTED", 501, 12},
      {Code::kAlreadyExists, "ALREADY_EXISTS", 400, 6},
      {Code::kCancelled, "CANCELLED", 400, 1},
      {Code::kDeadlineExceeded, "DEADLINE_EXCEEDED", 503, 4},
      {Code::kResourceExhausted, "RESOURCE_EXHAUSTED", 400, 8},
  };
  return table;
}

const ErrorRow& ErrorRowOf(Code code) { return ErrorTable()[static_cast<size_t>(code)]; }

Code CodeOfName(std::string_view name) {
  for (const ErrorRow& row : ErrorTable()) {
    if (row.name == name && row.code != Code::kOk) return row.code;
  }
  return Code::kInternal;
}

}  // namespace pyinfer
