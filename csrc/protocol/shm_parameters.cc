// SPDX-License-Identifier: Apache-2.0
#include "protocol/shm_parameters.h"

#include <utility>

#include "infer/shared_memory.h"

namespace pyinfer {

StatusOr<SharedMemoryPart> ShmParameters::Find(const Request& request) const {
  if (request.regions == nullptr) {
    return Status::NotFound("Unable to find shared memory region: '" + *region + "'");
  }
  return request.regions->Find(*region, offset, byte_size);
}

Status ShmParameters::ReadInput(Tensor& input, Request& request) const {
  StatusOr<SharedMemoryPart> part = Find(request);
  return part.ok() ? pyinfer::ReadInput(part.value(), input, request) : part.status();
}

Status ShmParameters::SetDestination(RequestedOutput& output, Request& request) const {
  if (output.classification != 0) {
    return Status::InvalidArg("Output can't set both 'shared_memory_region' and 'classification'");
  }
  StatusOr<SharedMemoryPart> part = Find(request);
  if (!part.ok()) return part.status();
  output.destination = std::move(part).value();
  request.uses_shared_memory = true;
  return Status();
}

StatusOr<bool> GrpcShmParameters::Add(const std::string& key, const std::optional<ParameterValue>& value,
                                      const std::string& tensor) {
  if (key != kShmRegion && key != kShmOffset && key != kShmByteSize) return false;
  const auto wrong_type = [&](std::string_view expected) {
    return Status::InvalidArg("invalid value type for '" + key + "' parameter for tensor '" + tensor + "', expected " +
                              std::string(expected) + ".");
  };
  if (key == kShmRegion) {
    const auto* name = value ? std::get_if<std::string>(&*value) : nullptr;
    if (name == nullptr) return wrong_type("string_param");
    parameters.region = *name;
    return true;
  }
  const auto* number = value ? std::get_if<int64_t>(&*value) : nullptr;
  if (number == nullptr) return wrong_type("int64_param");
  // A negative one is a very large one, which no region has.
  (key == kShmOffset ? has_offset : has_byte_size) = true;
  (key == kShmOffset ? parameters.offset : parameters.byte_size) = static_cast<uint64_t>(*number);
  return true;
}

Status GrpcShmParameters::Check(const std::string& tensor) const {
  const auto alone = [&](std::string_view name) {
    return Status::InvalidArg("'" + std::string(name) +
                              "' can not be specified without 'shared_memory_region' parameter for tensor '" + tensor +
                              "'");
  };
  if (parameters.region) {
    if (has_byte_size) return Status();
    return Status::InvalidArg(
        "'shared_memory_byte_size' must be specified along with 'shared_memory_region' parameter for tensor '" +
        tensor + "'");
  }
  if (has_offset) return alone(kShmOffset);
  return has_byte_size ? alone(kShmByteSize) : Status();
}

}  // namespace pyinfer
