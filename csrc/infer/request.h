// SPDX-License-Identifier: Apache-2.0
// request.h - one inference request, and the promise that it is answered exactly once.
//
// A protocol makes a Request with a sink and hands it to the engine; from there it has one owner at a time. Answer()
// may be called once, by the owner. A request that is destroyed unanswered answers itself with an internal error: no
// path through the scheduler can lose one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "infer/completion.h"
#include "infer/model_spec.h"
#include "infer/parameters.h"
#include "infer/tensor.h"
#include "infer/timeline.h"

namespace pyinfer {

// Why a request failed, as the failure metric counts it.
enum class FailureReason { kRejected, kCancelled, kBackend, kOther };
inline constexpr size_t kFailureReasons = 4;

// Told of the end of each request that it accepted; keeps counts. Called before the sink, so that a client that has its
// answer finds it counted.
class RequestObserver {
 public:
  virtual ~RequestObserver() = default;
  virtual void OnAnswer(const Request& request, const Status& status) noexcept = 0;
};

class Request {
 public:
  explicit Request(std::shared_ptr<CompletionSink> sink) : sink_(std::move(sink)) {}
  ~Request() {
    if (sink_) Answer(Response::Error(Status::Internal("the request was dropped without an answer")));
  }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  // What the client asked for; written by the protocol.
  std::string model_name;
  int64_t model_version = -1;  // -1: the latest
  std::string id;
  std::vector<Tensor> inputs;
  std::vector<std::string> requested_outputs;  // empty: all of the model's
  Parameters parameters;                       // custom ones only

  // Found out on the way; written by the engine and the scheduler.
  std::shared_ptr<const ModelSpec> model;         // set before validation
  std::shared_ptr<RequestObserver> observer;      // set on acceptance
  int64_t batch_size = 1;                         // rows; 1 where the model has no batch dimension
  FailureReason failure = FailureReason::kOther;  // what to count if the answer is an error
  Timeline timeline;

  bool answered() const { return sink_ == nullptr; }
  bool cancelled() const noexcept { return sink_ && sink_->cancelled(); }

  // Requires: not answered().
  void Answer(Response response) noexcept {
    if (observer) observer->OnAnswer(*this, response.status);
    std::shared_ptr<CompletionSink> sink = std::move(sink_);
    sink_ = nullptr;
    sink->Complete(*this, std::move(response));
  }
  void Fail(FailureReason reason, Status status) noexcept {
    failure = reason;
    Answer(Response::Error(std::move(status)));
  }

 private:
  std::shared_ptr<CompletionSink> sink_;
};

using RequestPtr = std::unique_ptr<Request>;

}  // namespace pyinfer
