// SPDX-License-Identifier: Apache-2.0
// schedule_checks.cc - what must be so after each event.
#include <algorithm>

#include "schedule.h"
#include "specs.h"

namespace pyinfer::simulation {

void Schedule::CheckBatch(const Batch& batch, const std::vector<int>& rows) {
  CHECK_EQ(batch.size(), rows.size());
  int64_t count = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const Request& request = batch.request(i);
    const bool real = rows[i] != kEmptyRow;
    CHECK_EQ(request.id, real ? std::to_string(rows[i]) : std::string());
    count += request.batch_size;
    if (model_->spec()->sequence) CheckControls(request, real ? &At(rows[i]).asked : nullptr);
    if (real && batch.has_states()) {
      int32_t& state = states_[rules_->SequenceOf(rows[i])];
      if (At(rows[i]).asked.start) state = kInitialState;
      CHECK_EQ(request.inputs.back().name, "STATE");
      CHECK_EQ(testing::IntsOf(request.inputs.back().data).at(0), state);
    }
    if (real) CheckInputs(request, rows[i]);
    if (real) CHECK(!request.cancelled());
  }
  if (model_->spec()->padding) CheckWidths(rows);
  CHECK_EQ(batch.rows(), count);
  if (!rows.empty()) CHECK(count <= std::max<int64_t>(1, model_->spec()->batching.max_batch_size));
}

// The values are the request's, and behind them, where it is padded, all that makes it as long as the others.
void Schedule::CheckInputs(const Request& request, int number) {
  Sent& sent = At(number);
  const std::vector<int32_t> values = testing::IntsOf(request.inputs.at(0).data);
  if (!model_->spec()->padding) return CHECK_EQ(values.at(0), sent.asked.value);
  const PaddingOptions::Axis& axis = model_->spec()->padding->axes[0];
  const Asked& asked = sent.asked;
  sent.width = request.inputs[0].shape.at(1);
  CHECK_EQ(values.size(), static_cast<size_t>(asked.rows * sent.width));
  for (size_t i = 0; i < values.size(); ++i) {
    CHECK_EQ(values[i], static_cast<int64_t>(i) % sent.width < asked.width ? asked.value : kPadding);
  }
  if (asked.more) CHECK(testing::IntsOf(request.inputs.at(1).data) == values);
  if (axis.lengths.empty()) return;
  CHECK_EQ(request.inputs.back().name, axis.lengths);
  const std::vector<int32_t> lengths(static_cast<size_t>(asked.rows), static_cast<int32_t>(asked.width));
  CHECK(testing::IntsOf(request.inputs.back().data) == lengths);
}

// All rows of a batch are as wide as their bucket, which they share, or as the widest of them.
void Schedule::CheckWidths(const std::vector<int>& rows) {
  const PaddingOptions::Axis& axis = model_->spec()->padding->axes[0];
  const auto bucket_of = [&](int64_t width) {
    return *std::lower_bound(axis.buckets.begin(), axis.buckets.end(), width);
  };
  int64_t widest = 0;
  for (const int number : rows) widest = std::max(widest, At(number).asked.width);
  for (const int number : rows) {
    CHECK_EQ(bucket_of(At(number).asked.width), bucket_of(widest));
    CHECK_EQ(At(number).width, axis.to_longest ? widest : bucket_of(widest));
  }
}

// `asked` is nullptr for a row without a request: it looks like another's, but for its controls.
void Schedule::CheckControls(const Request& request, const Asked* asked) {
  for (const SequenceControl& control : model_->spec()->sequence->controls) {
    const auto found = std::find_if(request.inputs.begin(), request.inputs.end(),
                                    [&](const Tensor& input) { return input.name == control.name; });
    CHECK(found != request.inputs.end());
    int32_t expected = 0;
    if (control.name == "START") expected = asked != nullptr && asked->start ? 1 : 0;
    if (control.name == "END") expected = asked != nullptr && asked->end ? 1 : 0;
    if (control.name == "READY") expected = asked != nullptr ? 1 : 0;
    if (control.name == "CORRID") expected = asked != nullptr ? static_cast<int32_t>(asked->sequence) : 0;
    CHECK_EQ(testing::IntsOf(found->data).at(0), expected);
  }
}

void Schedule::CheckEnded() {
  for (const Ended& ended : rules_->TakeEnded()) {
    switch (ended.end) {
      case End::kCancelled:
        ExpectFailure(ended.number, Code::kCancelled, "", FailureReason::kCancelled);
        break;
      case End::kTimeout:
        ExpectFailure(ended.number, Code::kUnavailable, "Request timeout expired", FailureReason::kRejected);
        break;
      case End::kSequenceTimeout:
        ExpectFailure(ended.number, Code::kUnavailable, "timeout of the corresponding sequence has been expired",
                      FailureReason::kRejected);
        break;
      case End::kClosed:
        ExpectFailure(ended.number, Code::kUnavailable,
                      "Server is stopping, scheduler for model has stopped accepting new inference requests",
                      FailureReason::kRejected);
        break;
      case End::kUnloaded:
        ExpectFailure(ended.number, Code::kUnavailable, "the model 'm' is being unloaded", FailureReason::kRejected);
        break;
      default:
        CHECK(false);
    }
  }
  for (const int number : rules_->lazy()) {
    if (At(number).sink->answers == 0) continue;
    ExpectFailure(number, Code::kCancelled, "", FailureReason::kCancelled);
    rules_->Found(number);
  }
}

void Schedule::CheckSaid() {
  for (auto& [at, line] : lines_) {
    while (!line.open.empty()) {
      const int number = line.open.front();
      const auto said = said_.find(number);
      if (said == said_.end()) break;  // the answers to those behind are kept back
      const auto begin = order_.begin() + static_cast<std::ptrdiff_t>(line.last);
      const auto found = std::find(begin, order_.end(), number);
      CHECK(found != order_.end());
      line.last = static_cast<size_t>(found - order_.begin());
      ExpectSaid(number, said->second);
    }
  }
  for (const int number : std::vector<int>(open_)) {
    const auto said = said_.find(number);
    if (said != said_.end() && LineOf(number) == nullptr) ExpectSaid(number, said->second);
  }
}

void Schedule::ExpectSaid(int number, Said said) {
  const FailureReason backend = FailureReason::kBackend;
  switch (said) {
    case Said::kValue:
      return ExpectValue(number);
    case Said::kRefused:
      return ExpectFailure(number, Code::kUnavailable, "refused", backend);
    case Said::kNothing:
      return ExpectFailure(number, Code::kInternal, "the model 'm' did not answer the request", backend);
    case Said::kDropped:
      return ExpectFailure(number, Code::kInternal, "the model 'm' dropped a request before its last response",
                           backend);
  }
}

void Schedule::CheckStep() {
  CheckEnded();
  CheckSaid();
  for (const int number : open_) {
    CHECK_EQ(At(number).sink->answers.load(), 0);
    // Where there is an order, those of whoever is first in it leave.
    const Line* line = LineOf(number);
    CHECK_EQ(At(number).sink->partial.size(), line && line->open.front() != number ? 0 : At(number).partial);
  }
  CHECK_EQ(model_->pending(), rules_->waiting());
  CHECK_EQ(model_->in_flight(), open_.size());
}

void Schedule::Close(Sent& sent, bool out_of_turn) {
  CHECK(sent.open);
  sent.open = false;
  const int number = sent.asked.number;
  open_.erase(std::find(open_.begin(), open_.end(), number));
  CHECK_EQ(sent.sink->answers.load(), 1);
  Line* line = LineOf(number);
  const bool lost = out_of_turn && line != nullptr && line->open.front() != number && sent.sink->partial.empty();
  if (!lost) CHECK_EQ(sent.sink->partial.size(), sent.partial);
  if (line != nullptr) line->open.erase(std::find(line->open.begin(), line->open.end(), number));
}

void Schedule::ExpectFailure(int number, Code code, const std::string& message, FailureReason reason) {
  Sent& sent = At(number);
  log_("  ", number, " fails: ", message);
  Close(sent, reason == FailureReason::kCancelled || reason == FailureReason::kRejected);
  CHECK_EQ(sent.sink->message(), message);
  CHECK(sent.sink->code() == code);
  CHECK(sent.sink->reason == reason);
  ++counts_.failures[static_cast<size_t>(reason)];
}

void Schedule::ExpectValue(int number) {
  Sent& sent = At(number);
  Close(sent);
  CHECK_EQ(sent.sink->message(), "");
  CHECK(sent.sink->code() == Code::kOk);
  const auto& outputs = sent.sink->response.outputs;
  CHECK_EQ(outputs.size(), size_t{1});
  const std::vector<int32_t> values = testing::IntsOf(outputs[0].data);
  CHECK_EQ(values.size(), static_cast<size_t>(sent.asked.rows * sent.asked.width));
  for (const int32_t value : values) CHECK_EQ(value, sent.asked.value * 2);
  const Asked& asked = sent.asked;
  const bool batched = model_->spec()->has_batch_dimension();
  CHECK(outputs[0].shape == (batched ? Shape{asked.rows, asked.width} : Shape{asked.width}));
  ++counts_.ok;
  counts_.rows += static_cast<uint64_t>(sent.asked.rows);
  if (model_->spec()->cached) kept_.insert(KeyOf(sent.asked));
}

void Schedule::ExpectHit(int number) {
  log_("  ", number, " is answered from the cache");
  ExpectValue(number);
  counts_.rows -= static_cast<uint64_t>(At(number).asked.rows);  // nothing was executed
  ++counts_.hits;
}

void Schedule::CheckCounts() {
  CHECK(open_.empty());
  for (const Sent& sent : sent_) CHECK_EQ(sent.sink->answers.load(), 1);
  CHECK(model_->Drain(std::chrono::nanoseconds(0)));
  CHECK_EQ(model_->pending(), size_t{0});
  CHECK_EQ(model_->in_flight(), size_t{0});
  const ModelStatistics statistics = model_->Statistics();
  CHECK_EQ(statistics.success.count, counts_.ok);
  CHECK_EQ(statistics.inference_count, counts_.rows);
  CHECK_EQ(statistics.execution_count, counts_.executions);
  CHECK_EQ(statistics.cache_hit.count, counts_.hits);
  CHECK(statistics.failures == counts_.failures);
}

}  // namespace pyinfer::simulation
