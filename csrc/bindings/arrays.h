// SPDX-License-Identifier: Apache-2.0
// arrays.h - tensors <-> NumPy arrays. All functions require the GIL.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstring>
#include <string>
#include <string_view>

#include "base/status.h"
#include "infer/tensor.h"

namespace pyinfer {

// A writable view of the tensor's bytes that keeps them alive (a copy where they are few, or not aligned for
// their type); BYTES tensors become an object array of bytes, BF16 tensors the uint16 of their bits.
// `foreign`: what becomes of memory that a client shares, which nobody here may write to.
enum class Foreign { kCopy, kView };
pybind11::array ToArray(const Tensor& tensor, Foreign foreign = Foreign::kCopy);

// The array as a tensor of `dtype`. A large array is kept alive, a small one copied; one that is not C-contiguous is
// made so. Arrays of objects or text become BYTES. An Internal status tells why it can not be a `dtype`.
StatusOr<Tensor> FromArray(std::string name, DType dtype, const pybind11::array& array);

// Whether the bytes of the array are those of its elements as a tensor has them: one after the other, in native order.
bool HasPlainBytes(const pybind11::array& array);

// The data type that an array has by itself; kInvalid for one that the protocol does not know. uint16 is kUint16.
DType DTypeOfArray(const pybind11::array& array);

// The elements of a BYTES tensor in wire form, one after the other.
class BytesWalk {
 public:
  explicit BytesWalk(std::string_view data) : rest_(data) {}

  // False where there is no further element: at the end, or where the rest is none.
  bool Next() {
    uint32_t length = 0;
    if (rest_.size() < sizeof(length)) return false;
    std::memcpy(&length, rest_.data(), sizeof(length));
    if (rest_.size() - sizeof(length) < length) return false;
    element_ = rest_.substr(sizeof(length), length);
    rest_.remove_prefix(sizeof(length) + length);
    return true;
  }
  std::string_view element() const { return element_; }
  bool ended() const { return rest_.empty(); }

 private:
  std::string_view rest_;
  std::string_view element_;
};

// BYTES wire form of an object or text array.
Slice SerializeBytes(const pybind11::array& array);
// An object array of that form, of all elements that there are where `shape` is null. Raises ValueError where the
// elements are not those of the shape, or malformed.
pybind11::array DeserializeBytes(std::string_view data, const Shape* shape);

// A Python bytes-like object over the slice.
pybind11::object ToMemoryView(const Slice& slice);

void BindArrays(pybind11::module_& module);

}  // namespace pyinfer
