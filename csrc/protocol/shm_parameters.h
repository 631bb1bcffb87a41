// SPDX-License-Identifier: Apache-2.0
// shm_parameters.h - the parameters of an input or a requested output that name shared memory, in either protocol.
//
// Source: Triton's shared memory extensions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "infer/request.h"

namespace pyinfer {

inline constexpr std::string_view kShmRegion = "shared_memory_region";
inline constexpr std::string_view kShmOffset = "shared_memory_offset";
inline constexpr std::string_view kShmByteSize = "shared_memory_byte_size";

struct ShmParameters {
  std::optional<std::string> region;
  uint64_t offset = 0;
  uint64_t byte_size = 0;

  // Gives `input` its data. Requires: region.
  Status ReadInput(Tensor& input, Request& request) const;
  // Remembers where the output is wanted. Requires: region.
  Status SetDestination(RequestedOutput& output, Request& request) const;

 private:
  StatusOr<SharedMemoryPart> Find(const Request& request) const;
};

// The same as they come by gRPC, which insists on some of them together and on their types.
struct GrpcShmParameters {
  ShmParameters parameters;
  bool has_offset = false;
  bool has_byte_size = false;

  // True where `key` is one of them.
  StatusOr<bool> Add(const std::string& key, const std::optional<ParameterValue>& value, const std::string& tensor);
  // Once all have been added.
  Status Check(const std::string& tensor) const;
};

}  // namespace pyinfer
