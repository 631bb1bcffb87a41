// SPDX-License-Identifier: Apache-2.0
// random.h - splitmix64: the same numbers on every machine, a state that is cheap to copy.
#pragma once

#include <cstdint>

namespace pyinfer {

inline uint64_t NextRandom(uint64_t& state) {
  state += 0x9e3779b97f4a7c15;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// From 0 to below 1.
inline double ToUniform(uint64_t random) { return static_cast<double>(random >> 11) * 0x1p-53; }

}  // namespace pyinfer
