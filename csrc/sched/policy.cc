// SPDX-License-Identifier: Apache-2.0
#include "sched/policy.h"

#include <algorithm>

namespace pyinfer {
namespace {

// Requests in the longest prefix that adds up to exactly a preferred size; 0 where there is none.
size_t PreferredPrefix(const QueueView& view, const std::vector<int64_t>& preferred) {
  size_t best = 0;
  int64_t rows = 0;
  for (size_t i = 0; i < view.rows.size(); ++i) {
    rows += view.rows[i];
    if (std::find(preferred.begin(), preferred.end(), rows) != preferred.end()) best = i + 1;
  }
  return best;
}

}  // namespace

Decision Decide(const QueueView& view, TimeNs now, const BatchOptions& options) {
  if (view.rows.empty()) return {};
  if (!options.dynamic) return Decision::Take(1);
  const int64_t delay = options.max_queue_delay_ns;
  if (delay > 0 && now - view.oldest >= delay) return Decision::Take(view.rows.size());
  if (const size_t prefix = PreferredPrefix(view, options.preferred_batch_sizes); prefix != 0) {
    return Decision::Take(prefix);
  }
  if (delay == 0 || view.saturated) return Decision::Take(view.rows.size());
  return Decision::WaitUntil(view.oldest + delay);
}

}  // namespace pyinfer
