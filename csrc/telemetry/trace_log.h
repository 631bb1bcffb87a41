// SPDX-License-Identifier: Apache-2.0
// trace_log.h - writes finished traces to files, on a thread of its own, in the way of Triton's trace mode "triton".
//
// Traces of a setting with a log frequency of n go to <file>.0, <file>.1, ..., n to each. Those of a setting with a
// count go to the next of these once the count is used up. All others go to <file> within about a second. What is left
// when a setting is replaced, or at the end, goes to <file>, or with a log frequency to the next <file>.N.
//
// What can not be written is dropped and counted; it is reported when that begins and when it ends.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "engine/trace_setting.h"
#include "telemetry/trace_file.h"

namespace pyinfer {

class TraceLog {
 public:
  // Called on the thread of the log with a text for the operator.
  using Report = std::function<void(const std::string& text)>;

  // Text that waits for its file is written before its time once there is so much of it.
  static constexpr size_t kMaxHeld = size_t{64} << 20;

  // Starts the thread.
  TraceLog(std::shared_ptr<TraceQueue> queue, std::string path, Report report);
  // Close().
  ~TraceLog();
  TraceLog(const TraceLog&) = delete;
  TraceLog& operator=(const TraceLog&) = delete;

  // Closes the queue, writes what is left and ends the thread. Blocks until then. Idempotent. One thread.
  void Close();

 private:
  // What waits to be written for one setting.
  struct Held {
    std::string text;
    size_t traces = 0;       // in text
    uint64_t collected = 0;  // since the setting was made
  };

  void Run();
  void Keep(CollectedTrace trace);
  // `final`: everything goes.
  void WriteDue(bool final);
  void Write(Held& held, bool indexed);
  void CountLost(uint64_t count);
  void ReportDropped();

  const std::shared_ptr<TraceQueue> queue_;
  const Report report_;
  TraceFile file_;
  std::map<std::shared_ptr<TraceSetting>, Held> held_;
  std::chrono::steady_clock::time_point written_at_;
  bool failing_ = false;      // the last write failed
  uint64_t lost_ = 0;         // traces that were taken and could not be written
  uint64_t lost_before_ = 0;  // the same, when writes began to fail
  uint64_t reported_ = 0;     // of those that the queue had no room for
  std::chrono::steady_clock::time_point reported_at_;
  std::thread thread_;
};

}  // namespace pyinfer
