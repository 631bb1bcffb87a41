// SPDX-License-Identifier: Apache-2.0
#include "infer/shared_memory.h"

#include <algorithm>
#include <new>
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

// Whether an output that is memory of an input can be moved to where it is to be.
bool CanMove(const Request& request, const SharedMemoryPart& part) {
  return std::none_of(
      request.input_regions.begin(), request.input_regions.end(),
      [&](const SharedMemoryRegionPtr& input) { return part.region->Aliases(part.offset, part.byte_size, *input); });
}

Status PlaceAll(const Request& request, Response& response) {
  // What is memory of the client is copied before any destination is written, because these may overlap, and because an
  // answer is not sent from memory that its client may take away meanwhile. A single output can be moved at once.
  const bool single = response.outputs.size() == 1;
  for (Tensor& output : response.outputs) {
    if (!output.data.foreign()) continue;
    const SharedMemoryPart* destination = DestinationOf(request, output);
    if (single && destination != nullptr && CanMove(request, *destination)) continue;
    output.data = Slice::Copy(output.data.data(), output.data.size());
  }
  for (Tensor& output : response.outputs) {
    const SharedMemoryPart* destination = DestinationOf(request, output);
    if (destination == nullptr) continue;
    if (Status status = PlaceOutput(*destination, output); !status.ok()) return status;
  }
  for (const SharedMemoryRegionPtr& region : request.input_regions) {
    if (Status status = region->Check(); !status.ok()) return status;
  }
  return Status();
}

}  // namespace

const SharedMemoryPart* DestinationOf(const Request& request, const Tensor& output) {
  for (const RequestedOutput& requested : request.requested_outputs) {
    if (requested.destination.region && requested.name == output.name) return &requested.destination;
  }
  return nullptr;
}

Status ReadInput(const SharedMemoryPart& part, Tensor& input, Request& request) {
  request.uses_shared_memory = true;
  StatusOr<Slice> data = part.region->Read(part.offset, part.byte_size, input.dtype != DType::kBytes);
  if (!data.ok()) return data.status();
  input.data = std::move(data).value();
  request.input_regions.push_back(part.region);
  return Status();
}

Status MoveInputsToHost(Request& request) {
  for (Tensor& input : request.inputs) {
    if (!input.data.device()) continue;
    StatusOr<Slice> copy = input.data.CopyToHost();
    if (!copy.ok()) return copy.status();
    input.data = std::move(copy).value();
  }
  return Status();
}

void PlaceOutputs(const Request& request, Response& response) noexcept {
  if (!response.status.ok() || request.cancelled()) return;
  Status status;
  try {
    status = PlaceAll(request, response);
  } catch (const std::bad_alloc&) {
    status = Status::Unavailable("the response does not fit into memory");
  }
  if (!status.ok()) response = Response::Error(std::move(status));
}

}  // namespace pyinfer
