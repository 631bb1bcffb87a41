// SPDX-License-Identifier: Apache-2.0
#include "engine/response_statistics.h"

#include <algorithm>

namespace pyinfer {

void ResponseStatisticsCollector::Add(const ResponseReport& report) {
  if (report.index >= kMaxIndex) return;
  std::lock_guard<std::mutex> lock(mutex_);
  by_index_.resize(std::max(by_index_.size(), report.index + 1));
  ResponseStatistics& sums = by_index_[report.index];
  switch (report.kind) {
    case ResponseReport::Kind::kCancelled:
      sums.cancel.Add(report.begun, report.checked);
      return;
    case ResponseReport::Kind::kEmpty:
      sums.empty_response.Add(report.begun, report.checked);
      sums.compute_infer.Add(report.begun, report.given);
      return;
    case ResponseReport::Kind::kSuccess:
      sums.success.Add(report.begun, report.checked);
      break;
    case ResponseReport::Kind::kFail:
      sums.fail.Add(report.begun, report.checked);
      break;
  }
  sums.compute_infer.Add(report.begun, report.given);
  sums.compute_output.Add(report.given, report.checked);
}

std::vector<ResponseStatistics> ResponseStatisticsCollector::Snapshot() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return by_index_;
}

}  // namespace pyinfer
