// SPDX-License-Identifier: Apache-2.0
#include "sched/sequence_controls.h"

#include <cstring>
#include <string>

namespace pyinfer {
namespace {

// The element of a correlation id tensor. Numbers are cut to the size of the type, as Triton does.
Slice IdElement(DType dtype, const CorrelationId& id) {
  if (dtype != DType::kBytes) return Slice::Copy(&id.number, DTypeSize(dtype));
  const auto size = static_cast<uint32_t>(id.text.size());
  std::string element(sizeof(size), '\0');
  std::memcpy(element.data(), &size, sizeof(size));
  element += id.text;
  return Slice::Copy(element.data(), element.size());
}

}  // namespace

void AddSequenceControls(Request& request, bool ready) {
  const Shape shape = request.model->has_batch_dimension() ? Shape{1, 1} : Shape{1};
  for (const SequenceControl& control : request.model->sequence->controls) {
    Tensor& tensor = request.inputs.emplace_back();
    tensor.name = control.name;
    tensor.dtype = control.dtype;
    tensor.shape = shape;
    switch (control.kind) {
      case SequenceControl::Kind::kStart:
        tensor.data = (request.flags & kSequenceStart) != 0 ? control.yes : control.no;
        break;
      case SequenceControl::Kind::kEnd:
        tensor.data = (request.flags & kSequenceEnd) != 0 ? control.yes : control.no;
        break;
      case SequenceControl::Kind::kReady:
        tensor.data = ready ? control.yes : control.no;
        break;
      case SequenceControl::Kind::kCorrelationId:
        tensor.data = IdElement(control.dtype, request.correlation_id);
        break;
    }
  }
}

}  // namespace pyinfer
