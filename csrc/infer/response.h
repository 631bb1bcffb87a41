// SPDX-License-Identifier: Apache-2.0
// response.h - one response to a request: outputs, or an error, in the same object through the same pipe.
//
// A request has exactly one response, unless its model is decoupled: then it has any number of them, and the end is
// told apart (see CompletionSink).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "infer/parameters.h"
#include "infer/tensor.h"

namespace pyinfer {

struct Response {
  Status status;
  // Empty where status is an error.
  std::vector<Tensor> outputs;
  Parameters parameters;
  // Says nothing but that there are no more: the end of a decoupled request whose last response was sent before.
  bool only_ends = false;

  PYINFER_COLD static Response Error(Status status) {
    Response response;
    response.status = std::move(status);
    return response;
  }
  static Response End() {
    Response response;
    response.only_ends = true;
    return response;
  }
};

}  // namespace pyinfer
