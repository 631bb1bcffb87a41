// SPDX-License-Identifier: Apache-2.0
// bytes_view.h - a BYTES tensor as its bytes came: an element becomes an object of Python only when it is asked for.
// Requires the GIL.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "infer/tensor.h"

namespace pyinfer {

class BytesView {
 public:
  // Copies bytes that a client may still change, and raises ValueError where they are not the elements of the shape.
  explicit BytesView(Tensor tensor);

  const Tensor& tensor() const { return tensor_; }
  size_t size() const { return count_; }
  pybind11::tuple shape() const;
  // An element in row-major order; counted from the end where `index` is negative. Raises IndexError.
  pybind11::bytes At(pybind11::ssize_t index);
  // Raises ValueError where the bytes are not elements. [elements, 2] of int64: where each begins in the bytes of the
  // tensor, and where it ends.
  pybind11::array Spans();

 private:
  void Locate();

  const Tensor tensor_;
  const size_t count_;
  std::vector<int64_t> spans_;  // empty until it is asked for
};

void BindBytesView(pybind11::module_& module);

}  // namespace pyinfer
