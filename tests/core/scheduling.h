// SPDX-License-Identifier: Apache-2.0
// scheduling.h - a small model, its requests, and a sink that keeps what it is answered.
#pragma once

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "infer/request.h"

namespace pyinfer::testing {

// Keeps the answer (and the responses before it), and counts how often there was one. `order` is shared by sinks whose
// order of answers matters.
class KeepingSink : public CompletionSink {
 public:
  explicit KeepingSink(int number = 0, std::vector<int>* order = nullptr) : number_(number), order_(order) {}

  void Send(const Request& request, Response given, bool final) noexcept override {
    if (!final) return partial.push_back(std::move(given));
    response = std::move(given);
    reason = request.failure;
    timeline = request.timeline;
    if (order_ != nullptr) order_->push_back(number_);
    answers.fetch_add(1);
  }
  bool cancelled() const noexcept override { return cancel.load(); }

  Code code() const { return response.status.code(); }
  const std::string& message() const { return response.status.message(); }

  std::atomic<int> answers{0};
  std::atomic<bool> cancel{false};
  std::vector<Response> partial;
  Response response;
  FailureReason reason = FailureReason::kOther;
  Timeline timeline;

 private:
  const int number_;
  std::vector<int>* const order_;
};

using SinkPtr = std::shared_ptr<KeepingSink>;

inline Slice Ints(const std::vector<int32_t>& values) { return Slice::Copy(values.data(), values.size() * 4); }

inline std::vector<int32_t> IntsOf(const Slice& slice) {
  std::vector<int32_t> values(slice.size() / 4);
  if (!values.empty()) std::memcpy(values.data(), slice.data(), slice.size());
  return values;
}

// One input "IN" and one output "OUT" of INT32 [-1].
inline ModelSpec IntModel(BatchOptions batching, int64_t version = 1) {
  ModelSpec spec;
  spec.name = "m";
  spec.version = version;
  spec.version_text = std::to_string(version);
  spec.inputs = {{"IN", DType::kInt32, {-1}, {}, false}};
  spec.outputs = {{"OUT", DType::kInt32, {-1}, {}, false}};
  spec.batching = std::move(batching);
  return spec;
}

inline std::shared_ptr<const ModelSpec> Shared(ModelSpec spec) {
  return std::make_shared<const ModelSpec>(std::move(spec));
}

// A validated request of `rows` rows of `width` elements, all of them `value`; without a batch dimension where rows is
// 0.
inline RequestPtr IntRequest(const std::shared_ptr<const ModelSpec>& model, SinkPtr sink, int64_t rows = 1,
                             int64_t width = 1, int32_t value = 0) {
  auto request = std::make_unique<Request>(std::move(sink));
  request->model_name = "m";
  request->model = model;
  request->batch_size = model->has_batch_dimension() ? rows : 1;
  Shape shape = model->has_batch_dimension() ? Shape{rows, width} : Shape{width};
  const auto count = static_cast<size_t>((model->has_batch_dimension() ? rows : 1) * width);
  request->inputs.push_back({"IN", DType::kInt32, std::move(shape), Ints(std::vector<int32_t>(count, value))});
  return request;
}

}  // namespace pyinfer::testing
