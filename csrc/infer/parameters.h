// SPDX-License-Identifier: Apache-2.0
// parameters.h - named values beside the tensors of a request or response.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace pyinfer {

using ParameterValue = std::variant<bool, int64_t, uint64_t, double, std::string>;
// In the order given; where a name comes twice, the last one counts.
using Parameters = std::vector<std::pair<std::string, ParameterValue>>;

}  // namespace pyinfer
