// SPDX-License-Identifier: Apache-2.0
// validate.h - the one validator below both protocols: is this request one that this model can execute?
//
// Source of rules and texts: Triton's core, request normalisation.
#pragma once

#include "base/status.h"
#include "infer/model_spec.h"
#include "infer/request.h"
#include "infer/response.h"

namespace pyinfer {

// A request may list this many more inputs than its model has and still be told which of them is wrong.
inline constexpr size_t kExtraInputs = 64;

// Checks names, counts, data types, shapes (variable and batch dimensions), byte sizes, BYTES elements and requested
// outputs against the request's model. On success sets request.batch_size and orders the inputs as the model lists
// them. May be called again, also for another model. Allocates nothing that depends on a declared shape.
Status ValidateRequest(Request& request);

// `status` with the id of `request` before its text: errors that name the request, so that a client with many in flight
// can tell which one it was.
Status WithRequestId(const Request& request, Status status);

// Gives the inputs of a validated request the shape that the executor sees (the configuration's reshape).
void ReshapeInputs(Request& request);

// Checks that `output` is what the model promises for a request of `batch_size` rows, and gives it the shape that
// clients see. `output.shape` comes as the executor made it. An Internal status names the fault.
Status ValidateOutput(const ModelSpec& model, int64_t batch_size, Tensor& output);

// What the executor made for `request`, checked, without the outputs that were not asked for, in the order in which
// they were. An error that names the fault where an output is not as promised, or (unless the model is decoupled)
// missing.
Response MakeResponse(const Request& request, std::vector<Tensor> outputs, Parameters parameters);

}  // namespace pyinfer
