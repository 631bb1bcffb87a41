// SPDX-License-Identifier: Apache-2.0
#include "infer/shared_memory.h"

#include <utility>

namespace pyinfer {
namespace {

Status PlaceOutput(const SharedMemoryPart& part, Tensor& output) {
  if (output.data.size() > part.byte_size) {
    return Status::Internal("shared memory size specified with the request for output '" + output.name + "' (" +
                            std::to_string(part.byte_size) + " bytes) should be at least " +
                            std::to_string(output.data.size()) + " bytes to hold the results");
  }
  if (Status status = part.region->Write(part.offset, output.data.view()); !status.ok()) return status;
  output.data = Slice();
  output.placed = true;
  return Status();
}

Status PlaceAll(const Request& request, Response& response) {
  for (Tensor& output : response.outputs) {
    for (const RequestedOutput& requested : request.requested_outputs) {
      if (!requested.destination.region || requested.name != output.name) continue;
      if (Status status = PlaceOutput(requested.destination, output); !status.ok()) return status;
    }
    // An answer is not sent from memory that its client may take away meanwhile.
    if (output.data.foreign()) output.data = Slice::Copy(output.data.data(), output.data.size());
  }
  for (const SharedMemoryRegionPtr& region : request.input_regions) {
    if (Status status = region->Check(); !status.ok()) return status;
  }
  return Status();
}

}  // namespace

Status ReadInput(const SharedMemoryPart& part, Tensor& input, Request& request) {
  request.uses_shared_memory = true;
  StatusOr<Slice> data = part.region->Read(part.offset, part.byte_size, input.dtype != DType::kBytes);
  if (!data.ok()) return data.status();
  input.data = std::move(data).value();
  request.input_regions.push_back(part.region);
  return Status();
}

void PlaceOutputs(const Request& request, Response& response) {
  if (!response.status.ok()) return;
  if (Status status = PlaceAll(request, response); !status.ok()) response = Response::Error(std::move(status));
}

}  // namespace pyinfer
