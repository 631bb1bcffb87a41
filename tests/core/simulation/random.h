// SPDX-License-Identifier: Apache-2.0
// random.h - numbers that depend on a seed alone, on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace pyinfer::simulation {

// SplitMix64.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // 0 to count - 1. Requires: count > 0.
  size_t Below(size_t count) { return static_cast<size_t>(Next() % count); }
  bool Chance(size_t percent) { return Below(100) < percent; }
  template <typename T>
  T Of(std::initializer_list<T> values) {
    return values.begin()[Below(values.size())];
  }

 private:
  uint64_t state_;
};

}  // namespace pyinfer::simulation
