// SPDX-License-Identifier: Apache-2.0
// specs.h - models at random.
#pragma once

#include <string>

#include "infer/model_spec.h"
#include "random.h"

namespace pyinfer::simulation {

inline constexpr int64_t kUs = 1000;  // ns
inline constexpr int32_t kInitialState = 7;
inline constexpr int32_t kPadding = -5;

ModelSpec DrawSpec(Random& random);
std::string Describe(const ModelSpec& spec);

}  // namespace pyinfer::simulation
