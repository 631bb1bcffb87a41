// SPDX-License-Identifier: Apache-2.0
// grpc_text.h - the header values of gRPC over HTTP/2. Source: its protocol description.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pyinfer {

inline constexpr std::string_view kGrpcContentType = "application/grpc";

// A grpc-message: everything but printable ASCII without '%' is percent-encoded; cut at 4 KiB.
std::string EncodeGrpcMessage(std::string_view message);

// A grpc-timeout, "<1 to 8 digits><unit>", in nanoseconds, at most 50 years; nothing where it is malformed.
std::optional<int64_t> ParseGrpcTimeout(std::string_view text);

// application/grpc, also with the suffix +proto or parameters.
bool IsGrpcContentType(std::string_view type);

}  // namespace pyinfer
