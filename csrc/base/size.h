// SPDX-License-Identifier: Apache-2.0
// size.h - the one place where sizes from outside are multiplied, in uint64 with overflow checks.
#pragma once

#include <cstdint>
#include <optional>

namespace pyinfer {

inline std::optional<uint64_t> CheckedMultiply(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

}  // namespace pyinfer
