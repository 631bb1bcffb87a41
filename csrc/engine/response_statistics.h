// SPDX-License-Identifier: Apache-2.0
// response_statistics.h - what Triton's ModelStatistics reports of the responses of a decoupled model, by their index.
#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

#include "engine/statistics.h"
#include "infer/request.h"

namespace pyinfer {

struct ResponseStatistics {
  DurationSum compute_infer, compute_output, success, fail, empty_response, cancel;
};

// Any thread.
class ResponseStatisticsCollector {
 public:
  // Requests may have millions of responses: those from this index on are not counted.
  static constexpr size_t kMaxIndex = 1024;

  void Add(const ResponseReport& report);
  std::vector<ResponseStatistics> Snapshot() const;

 private:
  mutable std::mutex mutex_;
  std::vector<ResponseStatistics> by_index_;
};

}  // namespace pyinfer
