// SPDX-License-Identifier: Apache-2.0
// padding.h - requests of different lengths in one batch: which belong together, and what their answers are.
//
// A model's padding names axes: lengths that differ between requests. Each has buckets, and a request falls into the
// smallest that holds it. Requests of equal buckets may share a batch; sched/pad.h makes their inputs equal, and
// outputs that are as long as the padded inputs are cut back here.
#pragma once

#include "base/status.h"
#include "infer/request.h"

namespace pyinfer {

// Sets request.padding. An InvalidArg names the input where a request is too long, is not equally long in all inputs of
// an axis, or is of no size that could be padded. Requires: the model has padding, and the rest of the request is
// valid.
Status MeasurePadding(Request& request);

// Are they padded to the same lengths, and alike in all other dimensions but the first?
// Requires: both have padding, and the same inputs.
bool SamePadding(const Request& a, const Request& b);

// `shape` of an input, as it is when it is padded to the request's lengths.
Shape PaddedShape(const PaddingOptions::Tensor& input, const PaddedLengths& lengths, Shape shape);

// Makes `output`, which was computed of padded inputs, as long as the request was: without a copy where what is left
// lies together. An Internal status where it is not as long as they were. Requires: the request has padding.
Status CutBack(const Request& request, Tensor& output);

// Goes through a tensor of shape `large` in the order of its elements: run(n) for n elements that a tensor of shape
// `small`, with its first element in the same corner, has as well, gap(n) for n that it has not.
// Requires: equal ranks, small[i] <= large[i].
template <typename Run, typename Gap>
void WalkCorner(const Shape& small, const Shape& large, Run run, Gap gap) {
  size_t last = 0;  // behind it, the two are alike
  for (size_t i = 0; i < small.size(); ++i) {
    if (small[i] != large[i]) last = i;
  }
  std::vector<uint64_t> inner(small.size(), 1);  // elements of `large` in one step of each dimension
  for (size_t i = small.size(); i-- > 1;) inner[i - 1] = inner[i] * static_cast<uint64_t>(large[i]);
  const auto walk = [&](const auto& self, size_t dim) -> void {
    const auto common = static_cast<uint64_t>(small[dim]);
    if (dim == last) {
      run(common * inner[dim]);
    } else {
      for (uint64_t i = 0; i < common; ++i) self(self, dim + 1);
    }
    if (large[dim] != small[dim]) gap((static_cast<uint64_t>(large[dim]) - common) * inner[dim]);
  };
  if (small.empty()) return run(uint64_t{1});
  walk(walk, 0);
}

}  // namespace pyinfer
