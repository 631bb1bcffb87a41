// SPDX-License-Identifier: Apache-2.0
// expected.h - the outputs that an answer is held against.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pyinfer {

// Name and bytes, in the binary form of the protocol. Outputs that are not named may be anything.
using ExpectedOutputs = std::vector<std::pair<std::string, std::string>>;

// Why an answer is not the expected one; empty where it is. `message`: a ModelInferResponse. `body` of an HTTP answer
// whose first `header_size` bytes (0: all) are JSON, with its outputs in binary behind.
std::string CompareGrpc(const ExpectedOutputs& expected, std::string_view message);
std::string CompareHttp(const ExpectedOutputs& expected, std::string_view body, size_t header_size);

}  // namespace pyinfer
