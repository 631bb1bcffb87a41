// SPDX-License-Identifier: Apache-2.0
// v2_http_fixtures.h - a model, and a sink for requests whose answer does not matter.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "infer/request.h"

namespace pyinfer::testing {

class NullSink final : public CompletionSink {
 public:
  void Send(const Request&, Response, bool) noexcept override {}
  bool cancelled() const noexcept override { return false; }
};

inline std::shared_ptr<const ModelSpec> Model(std::vector<TensorSpec> inputs, int64_t max_batch_size = 0) {
  auto model = std::make_shared<ModelSpec>();
  model->name = "m";
  model->version = 3;
  model->version_text = "3";
  model->inputs = std::move(inputs);
  model->outputs = {{"OUT", DType::kFp32, {-1}, {}, false}, {"TEXT", DType::kBytes, {-1}, {}, false}};
  model->batching.max_batch_size = max_batch_size;
  return model;
}

inline std::shared_ptr<const ModelSpec> OneInput(DType dtype) { return Model({{"IN", dtype, {-1}, {}, false}}); }

}  // namespace pyinfer::testing
