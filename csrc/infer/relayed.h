// SPDX-License-Identifier: Apache-2.0
// relayed.h - models that are executed here for another process, which checks their answers.
#pragma once

#include "infer/model_spec.h"

namespace pyinfer {

// Of such a model neither inputs nor outputs are known here: what its executor makes is passed on as it is. Every other
// model has outputs.
inline bool IsRelayed(const ModelSpec& model) { return model.inputs.empty() && model.outputs.empty(); }

}  // namespace pyinfer
