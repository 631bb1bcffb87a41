// SPDX-License-Identifier: Apache-2.0
// pack.h - many requests' tensors into one batch tensor and back.
//
// Packing copies each request's bytes once into a pooled buffer. It copies nothing where the batch holds one request,
// or where the requests' bytes lie one after the other already: the state of sequences that go on as they were
// executed. Splitting never copies: each response holds slices of the output.
#pragma once

#include <vector>

#include "base/status.h"
#include "infer/tensor.h"

namespace pyinfer {

class Batch;

// The batch's inputs, concatenated along the first dimension where the model has a batch dimension, those that may be
// ragged in one dimension; and the batch inputs of the model (see ragged.h).
// Requires: the requests' inputs have equal names and, but for the batch dimension and ragged ones, equal shapes.
std::vector<Tensor> Pack(const Batch& batch);

// For each request of the batch, its rows of each output. An Internal status names an output that does not have as many
// rows as the batch.
StatusOr<std::vector<std::vector<Tensor>>> Split(const Batch& batch, std::vector<Tensor> outputs);

// Appends to each of `parts` its `rows` of `tensor`, without copying. Requires: as many parts as rows, which together
// are those of `tensor`.
Status CutRows(const Tensor& tensor, const std::vector<int64_t>& rows, std::vector<std::vector<Tensor>>& parts);

// All rows of `pieces`, in their order. An Internal status names a tensor whose pieces differ in more than their rows.
// Requires: there are some, all of one name and data type, in memory of the host.
StatusOr<Tensor> JoinRows(std::vector<Tensor> pieces);

}  // namespace pyinfer
