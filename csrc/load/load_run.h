// SPDX-License-Identifier: Apache-2.0
// load_run.h - a load under way: its workers, each on a thread of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "load/load_options.h"
#include "load/load_window.h"
#include "load/worker.h"

namespace pyinfer {

// One thread calls it. The load starts with Start and goes on, whoever takes windows, until Stop.
class LoadRun {
 public:
  explicit LoadRun(LoadOptions options);
  ~LoadRun();
  LoadRun(const LoadRun&) = delete;
  LoadRun& operator=(const LoadRun&) = delete;

  // What is wrong with `options`.
  static Status Check(const LoadOptions& options);

  // Throws std::system_error. At most once.
  void Start();
  // Blocks until `seconds` have passed, `requests` more (0: as many as come) have ended, or nothing is left to be sent
  // and answered. How many have ended meanwhile.
  uint64_t Wait(double seconds, uint64_t requests);
  // What was met since the start or the last Take.
  LoadWindow Take();
  // Sends nothing more, waits up to `drain_seconds` for the answers that are due, ends. What was met since the last
  // Take. Idempotent.
  LoadWindow Stop(double drain_seconds);

  bool exhausted() const;
  // So far, of answers that are streams: also those to requests that are not over.
  uint64_t responses() const;
  // Sent and not answered.
  uint64_t in_flight() const;
  // Connections that did not come about, so far.
  uint64_t refused() const;

 private:
  uint64_t Sum(uint64_t (LoadWorker::*count)() const) const;

  const LoadOptions options_;
  const SystemClock clock_;
  std::atomic<int64_t> budget_;
  std::vector<std::unique_ptr<LoadWorker>> workers_;
  std::vector<std::thread> threads_;
  TimeNs cpu_taken_ = 0;
};

}  // namespace pyinfer
