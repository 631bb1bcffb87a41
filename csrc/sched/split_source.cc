// SPDX-License-Identifier: Apache-2.0
#include "sched/split_source.h"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "base/burst.h"
#include "infer/answer_order.h"
#include "sched/pack.h"

namespace pyinfer {
namespace {

// A request and its parts: where their answers come together. Any thread; calls nobody with its lock held but the sink
// of the request, to ask whether it is cancelled.
class WholeRequest final : public Deferred, public std::enable_shared_from_this<WholeRequest> {
 public:
  WholeRequest(RequestPtr request, size_t parts, std::weak_ptr<BatchSource> source)
      : source_(std::move(source)), request_(std::move(request)), answers_(parts), open_(parts) {}

  // Null where the request is answered already.
  RequestPtr MakePart(size_t part, std::vector<Tensor> inputs, int64_t rows);
  void OnAnswer(size_t part, const Request& request, Response response);
  bool cancelled() const noexcept {
    std::lock_guard<std::mutex> lock(mutex_);
    return !request_ || request_->cancelled();
  }
  // What waits for a request that is answered need not be executed.
  void RunDeferred() override {
    if (const auto source = source_.lock()) source->Reap();
  }

 private:
  void AddTimesLocked(const Timeline& times);
  static Response Join(std::vector<Response> answers);

  const std::weak_ptr<BatchSource> source_;
  mutable std::mutex mutex_;
  RequestPtr request_;  // nullptr once it is answered
  std::vector<Response> answers_;
  size_t open_;
};

class PartSink final : public CompletionSink {
 public:
  PartSink(std::shared_ptr<WholeRequest> whole, size_t part) : whole_(std::move(whole)), part_(part) {}

  void Send(const Request& request, Response response, bool) noexcept override {
    whole_->OnAnswer(part_, request, std::move(response));
  }
  bool cancelled() const noexcept override { return whole_->cancelled(); }

 private:
  const std::shared_ptr<WholeRequest> whole_;
  const size_t part_;
};

RequestPtr WholeRequest::MakePart(size_t part, std::vector<Tensor> inputs, int64_t rows) {
  auto made = std::make_unique<Request>(std::make_shared<PartSink>(shared_from_this(), part));
  std::lock_guard<std::mutex> lock(mutex_);
  if (!request_) return nullptr;
  made->slow_to_answer = true;
  made->model_name = request_->model_name;
  made->model_version = request_->model_version;
  made->id = request_->id;
  made->inputs = std::move(inputs);
  for (const RequestedOutput& output : request_->requested_outputs) made->requested_outputs.push_back({output.name});
  made->parameters = request_->parameters;
  made->correlation_id = request_->correlation_id;
  made->flags = request_->flags;
  made->priority = request_->priority;
  made->timeout_us = request_->timeout_us;
  made->model = request_->model;
  made->more_follow = request_->more_follow;
  made->batch_size = rows;
  made->timeline = request_->timeline;
  made->queue_deadline = request_->queue_deadline;
  if (request_->padding) made->padding = std::make_unique<PaddedLengths>(*request_->padding);
  return made;
}

// As those of ensembles: it waited until its first part was taken, and was executed for as long as all parts together.
void WholeRequest::AddTimesLocked(const Timeline& times) {
  Timeline& sum = request_->timeline;
  if (times.picked == 0) return;  // it was never taken
  const TimeNs input = std::max<TimeNs>(0, times.packed - times.picked);
  const TimeNs infer = std::max<TimeNs>(0, times.executed - times.packed);
  const TimeNs output = std::max<TimeNs>(0, times.split - times.executed);
  const TimeNs begun = sum.picked == 0 ? times.picked : std::min(sum.picked, times.picked);
  const TimeNs inputs = sum.packed - sum.picked + input;
  const TimeNs infers = sum.executed - sum.packed + infer;
  const TimeNs outputs = sum.split - sum.executed + output;
  sum.picked = begun;
  sum.packed = begun + inputs;
  sum.executed = sum.packed + infers;
  sum.split = sum.executed + outputs;
}

void WholeRequest::OnAnswer(size_t part, const Request& request, Response response) {
  RequestPtr whole;
  std::vector<Response> answers;
  const bool failed = !response.status.ok();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!request_) return;
    AddTimesLocked(request.timeline);
    --open_;
    if (failed) request_->failure = request.failure;
    answers_[part] = std::move(response);
    if (!failed && open_ != 0) return;
    whole = std::move(request_);
    if (failed) response = std::move(answers_[part]);
    answers.swap(answers_);
  }
  if (!failed) response = Join(std::move(answers));
  const bool left = failed && open_ != 0;
  whole->Answer(std::move(response));
  if (left) Burst::AtEnd(shared_from_this());
}

Response WholeRequest::Join(std::vector<Response> answers) {
  Response joined;
  joined.parameters = std::move(answers.front().parameters);
  for (size_t output = 0; output < answers.front().outputs.size(); ++output) {
    std::vector<Tensor> pieces;
    for (Response& answer : answers) pieces.push_back(std::move(answer.outputs[output]));
    StatusOr<Tensor> together = JoinRows(std::move(pieces));
    if (!together.ok()) return Response::Error(together.status());
    joined.outputs.push_back(std::move(together).value());
  }
  return joined;
}

}  // namespace

SplitSource::SplitSource(std::unique_ptr<BatchSource> parts, std::shared_ptr<const ModelSpec> model)
    : parts_(std::move(parts)), model_(std::move(model)) {}

bool SplitSource::Push(RequestPtr request) {
  const int64_t most = model_->batching.max_batch_size;
  if (request->batch_size <= most) return parts_->Push(std::move(request));
  std::vector<int64_t> rows;
  for (int64_t left = request->batch_size; left > 0; left -= most) rows.push_back(std::min(left, most));
  std::vector<std::vector<Tensor>> inputs(rows.size());
  for (const Tensor& input : request->inputs) {
    if (Status status = CutRows(input, rows, inputs); !status.ok()) {
      request->Fail(FailureReason::kOther, std::move(status));
      return false;
    }
  }
  // Its parts have turns of their own, and would wait for it.
  if (request->order) std::exchange(request->order, nullptr)->Skip(request->turn);
  const Burst burst;  // a part may be refused: those before it are cancelled afterwards, all at once
  const auto whole = std::make_shared<WholeRequest>(std::move(request), rows.size(), parts_);
  for (size_t part = 0; part < rows.size(); ++part) {
    RequestPtr made = whole->MakePart(part, std::move(inputs[part]), rows[part]);
    if (!made) return false;  // another part was refused or has failed
    parts_->Push(std::move(made));
  }
  return true;
}

}  // namespace pyinfer
