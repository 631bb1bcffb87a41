// SPDX-License-Identifier: Apache-2.0
// pad.h - makes the inputs of a batch's requests equally long.
//
// Each padded input is copied once, for all requests together, into one buffer: what Pack() finds to lie together
// already.
#pragma once

#include <vector>

#include "infer/request.h"

namespace pyinfer {

// Pads the inputs of `requests` as their model says, also of one alone, and adds the lengths that it is to be told.
// Requires: `requests` is not empty, their padding is measured, and they may share a batch.
void PadInputs(std::vector<RequestPtr>& requests);

}  // namespace pyinfer
