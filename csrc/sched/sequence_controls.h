// SPDX-License-Identifier: Apache-2.0
// sequence_controls.h - the tensors that tell a model where in a sequence a request is.
#pragma once

#include "infer/request.h"

namespace pyinfer {

// Adds the control tensors of the request's model to its inputs. `ready` false: the row stands for no request.
// Requires: request.model->sequence.
void AddSequenceControls(Request& request, bool ready);

}  // namespace pyinfer
