// SPDX-License-Identifier: Apache-2.0
// error_map.h - the one table from error codes to what each protocol calls them.
#pragma once

#include <string_view>
#include <vector>

#include "base/status.h"

namespace pyinfer {

struct ErrorRow {
  Code code;
  std::string_view name;  // Triton's name, as in the Python exceptions
  int http_status;
  int grpc_status;
};

const std::vector<ErrorRow>& ErrorTable();
const ErrorRow& ErrorRowOf(Code code);
// kInternal for a name that is not in the table.
Code CodeOfName(std::string_view name);

}  // namespace pyinfer
