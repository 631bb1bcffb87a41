// SPDX-License-Identifier: Apache-2.0
// classification.h - the classification extension: the largest elements of an output, as text, in place of the output.
//
// Below both protocols; each asks before it writes a response.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "infer/model_spec.h"
#include "infer/request.h"
#include "infer/tensor.h"

namespace pyinfer {

// Outputs of more elements (without the batch dimension) are not classified: the time for it would be the client's
// choice.
inline constexpr uint64_t kMaxClassifiedElements = 1'000'000;

// The `count` largest elements of `output`, or all where there are fewer; of each row where `batched`, which says that
// the first dimension counts rows. A BYTES tensor of shape [k] or [rows, k], largest first, the lower index first where
// two are equal, not-a-numbers last. An element is "<value>:<index>", and ":<label>" where `labels` has a text for the
// index; values are printed as printf's %f and %d do.
// InvalidArg for BOOL, FP16, BF16 and BYTES, and for too many elements.
StatusOr<Tensor> Classify(const Tensor& output, uint64_t count, bool batched, const std::vector<std::string>& labels);

// Whether the client of `request` wants classes of any output.
bool WantsClasses(const Request& request);
// `outputs` with the classes that the client wants in their places. Requires: request.model is set.
StatusOr<std::vector<Tensor>> ClassifyOutputs(const Request& request, std::vector<Tensor> outputs);

}  // namespace pyinfer
