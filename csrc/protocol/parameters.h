// SPDX-License-Identifier: Apache-2.0
// parameters.h - what request parameters mean, in whichever protocol they came: the reserved ones, and all others.
//
// Source: Triton's parameters, sequence and schedule policy extensions.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "infer/request.h"

namespace pyinfer {

// InvalidArg for a name that is reserved whatever its value.
Status CheckParameterName(std::string_view name);

// Gives `value` the place in `request` that `name` stands for: a field of its own, or the list of custom parameters.
// InvalidArg for a reserved name or a value of the wrong type, Unsupported for a correlation id that is too long.
Status AddParameter(std::string name, ParameterValue value, Request& request);

// True for the parameters that the scheduler reads: sequence_id, sequence_start, sequence_end, priority, timeout.
bool IsSchedulingParameter(std::string_view name);

// "" means the latest version: -1. InvalidArg where the text is not a version number, NotFound where it is one that no
// model can have.
StatusOr<int64_t> ParseVersion(std::string_view text);

}  // namespace pyinfer
