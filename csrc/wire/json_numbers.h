// SPDX-License-Identifier: Apache-2.0
// json_numbers.h - numbers -> JSON text: one, or all elements of an array.
//
// Floating-point numbers become the shortest text that reads back as the same value of their type, always with a point
// or an exponent; not-a-number and the infinities, for which JSON has no text, become NaN, Infinity and -Infinity.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace pyinfer {

void AppendJsonNumber(std::string& out, int64_t value);
void AppendJsonNumber(std::string& out, uint64_t value);
void AppendJsonNumber(std::string& out, double value);

// `count` numbers of the type T, which lie one after the other at any address, with commas between them.
// T: the integers of 8 to 64 bits, float, double.
template <typename T>
void AppendJsonNumbers(std::string& out, const void* elements, size_t count);

}  // namespace pyinfer
