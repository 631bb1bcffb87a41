// SPDX-License-Identifier: Apache-2.0
// ragged.h - batches of requests whose inputs differ in shape: their elements one after the other, and tensors that
// tell the executor where each begins.
//
// For three requests with 3, 4 and 5 elements of the source input:
//   ELEMENT_COUNT                         [3, 4, 5]
//   ACCUMULATED_ELEMENT_COUNT             [3, 7, 12]
//   ACCUMULATED_ELEMENT_COUNT_WITH_ZERO   [0, 3, 7, 12]
//   MAX_ELEMENT_COUNT_AS_SHAPE            zeros of shape [5]
//   ITEM_SHAPE                            [[3], [4], [5]]: of each row of each request, its shape
//   ITEM_SHAPE_FLATTEN                    [3, 4, 5]: the same in one dimension
//
// Source of the rules: Triton's ragged batching.
#pragma once

#include <vector>

#include "infer/tensor.h"
#include "sched/batch.h"

namespace pyinfer {

// Adds the batch inputs of the batch's model to `packed`. Requires: the batch is not empty.
void AddBatchInputs(const Batch& batch, std::vector<Tensor>& packed);

// The batch output that `output` is a target of; null where it is none.
const BatchOutput* FindBatchOutput(const ModelSpec& model, std::string_view output);

// The shape of `output` for a request, where its rows are told apart by the shape of `source`: each variable dimension,
// the batch dimension among them, is the one that the source input has at that place.
Shape ScatteredShape(const TensorSpec& output, const Tensor& source);

}  // namespace pyinfer
