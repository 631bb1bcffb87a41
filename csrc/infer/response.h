// SPDX-License-Identifier: Apache-2.0
// response.h - the one terminal answer to a request: outputs, or an error, in the same object through the same pipe.
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

  static Response Error(Status status) {
    Response response;
    response.status = std::move(status);
    return response;
  }
};

}  // namespace pyinfer
