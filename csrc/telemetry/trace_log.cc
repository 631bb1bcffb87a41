// SPDX-License-Identifier: Apache-2.0
#include "telemetry/trace_log.h"

#include <cstring>
#include <exception>
#include <utility>

#include "telemetry/trace_json.h"

namespace pyinfer {
namespace {

using std::chrono::steady_clock;

// How long a trace waits to be written to <file>.
constexpr std::chrono::milliseconds kWriteEvery{1000};
// Text that is written at once.
constexpr size_t kWriteFrom = size_t{64} << 10;
constexpr std::chrono::seconds kReportEvery{10};

// Traces that go to <file> as they come.
bool Flows(const TraceSetting& setting) { return setting.options().count < 0 && setting.options().log_frequency == 0; }

bool UsedUp(const TraceSetting& setting, uint64_t collected) {
  const int32_t count = setting.options().count;
  return count > 0 && setting.left() == 0 && collected + setting.dropped() >= static_cast<uint64_t>(count);
}

}  // namespace

TraceLog::TraceLog(std::shared_ptr<TraceQueue> queue, std::string path, Report report)
    : queue_(std::move(queue)), report_(std::move(report)), file_(std::move(path)), thread_([this] { Run(); }) {}

TraceLog::~TraceLog() { Close(); }

void TraceLog::Close() {
  queue_->Close();
  if (thread_.joinable()) thread_.join();
}

void TraceLog::Run() {
  for (;;) {
    // Asked before: what is pushed after Close() is dropped by the queue.
    const bool closed = queue_->closed();
    std::vector<CollectedTrace> traces = queue_->Take(kWriteEvery);
    for (CollectedTrace& trace : traces) Keep(std::move(trace));
    traces.clear();
    WriteDue(closed);
    ReportDropped();
    if (closed) return;
  }
}

void TraceLog::Keep(CollectedTrace trace) {
  const TraceSetting& setting = *trace.setting;
  Held& held = held_[trace.setting];
  const size_t before = held.text.size();
  try {
    if (before != 0) held.text += ',';
    AppendTraceJson(held.text, trace.record);
  } catch (const std::exception&) {  // no memory
    held.text.resize(before);
    return CountLost(1);
  }
  ++held.traces;
  ++held.collected;
  const uint32_t frequency = setting.options().log_frequency;
  if (UsedUp(setting, held.collected) || (frequency != 0 && held.traces >= frequency)) {
    Write(held, /*indexed=*/true);
  } else if (held.text.size() >= (Flows(setting) ? kWriteFrom : kMaxHeld)) {
    Write(held, frequency != 0);
  }
}

void TraceLog::CountLost(uint64_t count) {
  lost_ += count;
  queue_->CountDropped(count);
}

void TraceLog::WriteDue(bool final) {
  const auto now = steady_clock::now();
  const bool tick = now - written_at_ >= kWriteEvery;
  if (tick) written_at_ = now;
  for (auto item = held_.begin(); item != held_.end();) {
    const std::shared_ptr<TraceSetting>& setting = item->first;
    Held& held = item->second;
    // Nobody samples by it any more, and its traces have all come.
    const bool replaced = setting.use_count() == 1;
    if (held.traces != 0) {
      if (UsedUp(*setting, held.collected)) {
        Write(held, /*indexed=*/true);
      } else if (final || replaced || (tick && Flows(*setting))) {
        Write(held, setting->options().log_frequency != 0);
      }
    }
    item = replaced ? held_.erase(item) : std::next(item);
  }
}

void TraceLog::Write(Held& held, bool indexed) {
  const int error = indexed ? file_.WriteIndexed(held.text) : file_.Append(held.text);
  if (error != 0) {
    CountLost(held.traces);
    if (!std::exchange(failing_, true)) {
      lost_before_ = lost_ - held.traces;
      report_("traces can not be written to '" + file_.path() + "' and are dropped: " + std::strerror(error));
    }
  } else if (std::exchange(failing_, false)) {
    report_("traces are written again; " + std::to_string(lost_ - lost_before_) + " were dropped");
  }
  held.traces = 0;
  held.text = std::string();
}

void TraceLog::ReportDropped() {
  const uint64_t refused = queue_->counts().dropped - lost_;
  const auto now = steady_clock::now();
  if (refused == reported_ || now - reported_at_ < kReportEvery) return;
  report_(std::to_string(refused - reported_) + " traces were dropped: they come faster than they can be written");
  reported_ = refused;
  reported_at_ = now;
}

}  // namespace pyinfer
