// SPDX-License-Identifier: Apache-2.0
#include "sched/slo_control.h"

#include <algorithm>
#include <string>
#include <utility>

#include "infer/validate.h"

namespace pyinfer {
namespace {

// Executions between two that are made to learn something, and until a size is worth trying again.
constexpr uint64_t kBetweenTries = 64;
constexpr uint64_t kStale = 512;
// What is expected must be this part of the SLO too late for a request to be refused: it may turn out better, and one
// that was let in can still be given up.
constexpr TimeNs kDoubt = 10;
// Of a new interval in the mean of intervals. Bursts are what matters: it follows them.
constexpr double kIntervalWeight = 0.1;

// As it is configured: up to three decimals.
std::string Milliseconds(TimeNs time) {
  std::string text = std::to_string(time / 1'000'000);
  const std::string decimals = std::to_string(1000 + time / 1000 % 1000).substr(1);
  const size_t last = decimals.find_last_not_of('0');
  if (last != std::string::npos) text += "." + decimals.substr(0, last + 1);
  return text;
}

Status OverCapacity(const Request& request, TimeNs slo) {
  return Status::Unavailable("model '" + request.model->name +
                             "' is over capacity: the request can not be answered within the latency SLO of " +
                             Milliseconds(slo) + " ms");
}

}  // namespace

SloControl::SloControl(std::shared_ptr<const ModelSpec> model)
    : model_(std::move(model)), slo_(model_->queue.latency_slo_ns) {}

int64_t SloControl::Rows(const Request& request) { return std::max<int64_t>(1, request.batch_size); }

Status SloControl::Admit(Request& request, size_t waiting) {
  const TimeNs now = request.timeline.queued;
  const int64_t rows = Rows(request);
  if (last_arrival_ != 0) {
    // A pause is no interval of a load.
    const auto passed = static_cast<double>(std::min(now - last_arrival_, slo_)) / static_cast<double>(rows);
    interval_ += kIntervalWeight * (passed - interval_);
  } else {
    interval_ = static_cast<double>(slo_);
  }
  last_arrival_ = now;
  // An idle model runs what comes: nobody else is kept waiting by it, and something is learned.
  if (!times_.known() || (running_.empty() && waiting == 0)) return Status();
  SloView view;
  Complete(view, now);
  const TimeNs due = request.queue_deadline;
  const TimeNs latest = due - times_.AtLeast(rows);
  if (latest <= now || ExpectedAnswer(view, rows, now, times_, slo_) > due + slo_ / kDoubt) {
    ++shed_;
    return WithRequestId(request, OverCapacity(request, slo_));
  }
  request.queue_deadline = latest;
  return Status();
}

void SloControl::NoteGone(const std::vector<RequestPtr>& requests, bool late) {
  for (const RequestPtr& request : requests) rows_waiting_ -= Rows(*request);
  if (late) given_up_ += requests.size();
}

void SloControl::NoteTaken(const std::vector<RequestPtr>& requests, TimeNs now) {
  if (requests.empty()) return;
  int64_t rows = 0;
  for (const RequestPtr& request : requests) rows += Rows(*request);
  rows_waiting_ -= rows;
  running_.push_back({now, rows, now + times_.Mean(rows)});
  for (const int64_t tried : Tries()) {
    if (rows <= tried && 2 * rows > tried) last_tried_ = times_.executions();
  }
}

void SloControl::NoteExecuted(int64_t rows, TimeNs picked, TimeNs now) {
  const auto which = std::find_if(running_.begin(), running_.end(),
                                  [&](const Running& one) { return one.picked == picked && one.rows == rows; });
  if (which != running_.end()) running_.erase(which);
  times_.Add(rows, now - picked);
}

std::vector<int64_t> SloControl::Tries() const {
  std::vector<int64_t> tries;
  if (times_.executions() - last_tried_ < kBetweenTries) return tries;
  const auto best = static_cast<int64_t>(times_.Best(ExecutionBudget(slo_)).rows + 0.5);
  for (const int64_t rows : {2 * best, best / 2}) {
    if (rows >= 1 && rows <= model_->batching.max_batch_size && times_.Age(rows) >= kStale) tries.push_back(rows);
  }
  return tries;
}

void SloControl::Complete(SloView& view, TimeNs now) const {
  view.rows_waiting = rows_waiting_;
  view.most_rows = std::max<int64_t>(1, model_->batching.max_batch_size);
  view.running = running_.size();
  view.instances = std::max<size_t>(1, instances_);
  view.free_at = now;
  if (running_.size() >= view.instances) {
    view.free_at = running_.front().over;
    for (const Running& one : running_) view.free_at = std::min(view.free_at, one.over);
  }
  view.interval = last_arrival_ == 0 ? 0 : static_cast<TimeNs>(interval_);
  view.last_arrival = last_arrival_;
}

SloDecision SloControl::Decide(SloView view, TimeNs now) const {
  Complete(view, now);
  view.tries = Tries();
  return DecideSlo(view, now, times_, slo_);
}

SloReport SloControl::Report() const {
  SloReport report;
  report.learned = times_.points();
  report.best_rows = static_cast<int64_t>(times_.Best(ExecutionBudget(slo_)).rows + 0.5);
  report.shed = shed_;
  report.given_up = given_up_;
  return report;
}

}  // namespace pyinfer
