// SPDX-License-Identifier: Apache-2.0
#include "split_schedule.h"

#include <algorithm>
#include <string>
#include <utility>

#include "specs.h"

namespace pyinfer::simulation {
namespace {

// The one element of a row: which request it is of, and which of its rows.
int32_t Element(size_t request, int64_t row) {
  return static_cast<int32_t>(request) * 1000 + static_cast<int32_t>(row);
}

}  // namespace

SplitSchedule::SplitSchedule(uint64_t seed, std::ostream* log)
    : random_(seed), clock_(std::make_shared<ManualClock>(1000 * kUs)), log_(log, *clock_) {
  ModelSpec spec = DrawSpec(random_);
  spec.sequence.reset();
  spec.decoupled = false;
  spec.padding.reset();
  spec.batch_inputs.clear();
  spec.batch_outputs.clear();
  for (TensorSpec& input : spec.inputs) input.ragged = false;
  spec.split_large = true;
  if (spec.batching.max_batch_size == 0) spec.batching.max_batch_size = 3;
  if (log_.out() != nullptr) *log_.out() << Describe(spec);
  model_ = Model::Create(std::move(spec), clock_);
  for (size_t count = 1 + random_.Below(3); count != 0; --count) running_[model_->AddInstance()];
}

void SplitSchedule::Run() {
  for (size_t steps = 5 + random_.Below(60); steps != 0; --steps) {
    Step();
    CheckStep();
  }
  Settle();
}

void SplitSchedule::Step() {
  const size_t what = random_.Below(100);
  if (what < 25) return Push();
  if (what < 31) return Cancel();
  if (what < 45) return Advance();
  if (what < 98) {
    const size_t instance = random_.Below(running_.size());
    return running_[instance] ? Finish(instance) : Take(instance);
  }
  log_("drain");
  model_->Drain(std::chrono::nanoseconds(0));
}

void SplitSchedule::Push() {
  const ModelSpec& spec = *model_->spec();
  const size_t number = sent_.size();
  Sent sent;
  sent.sink = std::make_shared<testing::KeepingSink>();
  sent.rows = 1 + static_cast<int64_t>(random_.Below(static_cast<size_t>(spec.batching.max_batch_size) * 4));
  std::vector<int32_t> values;
  for (int64_t row = 0; row < sent.rows; ++row) values.push_back(Element(number, row));
  auto request = std::make_unique<Request>(sent.sink);
  request->model_name = "m";
  request->id = std::to_string(number);
  request->model = model_->spec();
  request->batch_size = sent.rows;
  request->priority = sent.priority = random_.Below(spec.queue.priority_levels + 1);
  request->timeout_us = random_.Of<uint64_t>({0, 0, 2, 20});
  request->inputs.push_back({"IN", DType::kInt32, {sent.rows, 1}, testing::Ints(values)});
  log_("push ", number, " of ", sent.rows);
  sent_.push_back(sent);
  sent_.back().deadline = model_->Push(std::move(request));
}

void SplitSchedule::Cancel() {
  if (sent_.empty()) return;
  const size_t number = random_.Below(sent_.size());
  Sent& sent = sent_[number];
  if (sent.sink->answers != 0) return;
  log_("cancel ", number);
  sent.sink->cancel = true;
  model_->Reap();
  // At once, unless an instance has all of it.
  CHECK_EQ(sent.sink->answers.load(), sent.taken < sent.rows ? 1 : 0);
  if (sent.taken < sent.rows) CHECK(sent.sink->code() == Code::kCancelled);
}

void SplitSchedule::Advance() {
  clock_->Advance(random_.Of<int64_t>({1, 2, 5, 20}) * kUs);
  log_("advance");
  model_->Expire(clock_->Now());
}

void SplitSchedule::Take(size_t instance) {
  Batch batch = model_->TakeNow(instance);
  if (batch.empty()) return;
  log_("instance ", instance, " takes ", batch.rows());
  CHECK(batch.rows() <= model_->spec()->batching.max_batch_size);
  for (size_t i = 0; i < batch.size(); ++i) {
    const Request& request = batch.request(i);
    Sent& sent = Of(request);
    CHECK(!request.cancelled());
    CHECK_EQ(request.priority, sent.priority);
    CHECK_EQ(request.queue_deadline, sent.deadline);
    CHECK_EQ(sent.sink->answers.load(), 0);
    // Each row once, in order.
    for (const int32_t value : testing::IntsOf(request.inputs[0].data)) {
      CHECK_EQ(value, Element(static_cast<size_t>(std::stoi(request.id)), sent.taken++));
    }
  }
  running_[instance].emplace(std::move(batch));
}

void SplitSchedule::Finish(size_t instance) {
  Batch batch = std::move(*running_[instance]);
  running_[instance].reset();
  ++executions_;
  log_("instance ", instance, " finishes");
  for (size_t i = 0; i < batch.size(); ++i) {
    if (random_.Chance(8)) {
      Of(batch.request(i)).failed = true;
      batch.Fail(i, Status::Unavailable("refused"));
      continue;
    }
    std::vector<int32_t> values = testing::IntsOf(batch.request(i).inputs[0].data);
    for (int32_t& value : values) value *= 2;
    const Shape shape{static_cast<int64_t>(values.size()), 1};
    batch.Respond(i, {{"OUT", DType::kInt32, shape, testing::Ints(values)}}, {});
  }
}

void SplitSchedule::CheckStep() {
  size_t open = 0, failed = 0, ok = 0;
  uint64_t rows = 0;
  const int64_t most = model_->spec()->batching.max_batch_size;
  size_t waiting = 0;
  for (size_t number = 0; number < sent_.size(); ++number) {
    const Sent& sent = sent_[number];
    CHECK(sent.sink->answers <= 1);
    if (sent.sink->answers == 0) {
      ++open;
      waiting += static_cast<size_t>((sent.rows - sent.taken + most - 1) / most);
      // Answers that have to leave in order wait, those of failures too.
      CHECK(!sent.failed || model_->spec()->batching.preserve_ordering);
      continue;
    }
    if (sent.sink->code() != Code::kOk) {
      ++failed;
      const std::string& text = sent.sink->message();
      const auto says = [&](const char* what) { return text.find(what) != std::string::npos; };
      const bool full = says("Exceeds maximum queue size"), expired = says("Request timeout expired");
      CHECK(sent.failed || sent.sink->cancel || full || says("Server is stopping") || expired);
      if (says("refused")) CHECK(sent.failed);
      continue;
    }
    ++ok;
    rows += static_cast<uint64_t>(sent.rows);
    CHECK(!sent.failed);
    CHECK_EQ(sent.taken, sent.rows);
    const Tensor& output = sent.sink->response.outputs.at(0);
    CHECK(output.shape == Shape({sent.rows, 1}));
    const std::vector<int32_t> values = testing::IntsOf(output.data);
    CHECK_EQ(values.size(), static_cast<size_t>(sent.rows));
    for (int64_t row = 0; row < sent.rows; ++row) {
      CHECK_EQ(values[static_cast<size_t>(row)], 2 * Element(number, row));
    }
  }
  CHECK_EQ(model_->in_flight(), open);
  // Of what is answered, nothing waits any more.
  CHECK_EQ(model_->pending(), waiting);
  const ModelStatistics statistics = model_->Statistics();
  CHECK_EQ(statistics.success.count, ok);
  CHECK_EQ(statistics.fail.count, failed);
  CHECK_EQ(statistics.inference_count, rows);
  CHECK_EQ(statistics.execution_count, executions_);
}

void SplitSchedule::Settle() {
  log_("settle");
  for (size_t round = 0; model_->in_flight() != 0; ++round) {
    CHECK(round < 2000);
    for (auto& [instance, batch] : running_) {
      if (batch) Finish(instance);
      CheckStep();
      Take(instance);
      CheckStep();
    }
    Advance();
    CheckStep();
  }
  for (auto& [instance, batch] : running_) {
    if (batch) Finish(instance);
  }
  CheckStep();
}

}  // namespace pyinfer::simulation
