// SPDX-License-Identifier: Apache-2.0
#include "engine/quantiles.h"

#include <algorithm>
#include <limits>

namespace pyinfer {
namespace {

// Values that are sorted into the windows together.
constexpr size_t kBurst = 1024;

double LeastError(const std::vector<QuantileTarget>& targets) {
  double least = 1;
  for (const QuantileTarget& target : targets) least = std::min(least, target.error);
  return least;
}

}  // namespace

void QuantileSketch::Add(const std::vector<uint32_t>& ascending) {
  count_ += ascending.size();
  Merge(ascending);
  Compress();
}

void QuantileSketch::Merge(const std::vector<uint32_t>& ascending) {
  merged_.clear();
  merged_.reserve(kept_.size() + ascending.size());
  size_t next = 0;
  for (const uint32_t value : ascending) {
    while (next < kept_.size() && kept_[next].value <= value) merged_.push_back(kept_[next++]);
    if (!merged_.empty() && merged_.back().value == value) {
      ++merged_.back().same;  // between equal values an order does not matter
      continue;
    }
    // It may lie anywhere among those below the next one that are not kept. The least and the greatest have one place.
    const bool exact = merged_.empty() || next == kept_.size();
    merged_.push_back({value, 0, 1, exact ? 0 : kept_[next].below + kept_[next].spread});
  }
  merged_.insert(merged_.end(), kept_.begin() + static_cast<std::ptrdiff_t>(next), kept_.end());
  kept_.swap(merged_);
}

// Drops values whose ranks the ones after them can stand for. The least and the greatest stay.
void QuantileSketch::Compress() {
  const auto widest = static_cast<uint64_t>(2 * error_ * static_cast<double>(count_));
  if (kept_.size() < 3 || widest < 2) return;
  merged_.clear();
  merged_.push_back(kept_.back());
  for (size_t i = kept_.size() - 2; i > 0; --i) {
    const Kept& one = kept_[i];
    Kept& after = merged_.back();
    const uint64_t joined = uint64_t{one.below} + one.same;
    if (joined + after.gap() <= widest) {
      after.below += static_cast<uint32_t>(joined);
    } else {
      merged_.push_back(one);
    }
  }
  merged_.push_back(kept_.front());
  kept_.assign(merged_.rbegin(), merged_.rend());
}

// The first value whose rank may be above wanted + error * n comes after one whose rank is at most that. Their gap is
// at most 2 * error * n, so the last of those equal to the one before is not below wanted - error * n: an answer within
// the bound exists, and the best one is taken.
double QuantileSketch::Query(double quantile) const {
  if (kept_.empty()) return std::numeric_limits<double>::quiet_NaN();
  const double wanted = quantile * static_cast<double>(count_);
  double least = std::numeric_limits<double>::infinity();
  uint32_t found = 0;
  uint64_t before = 0;
  for (const Kept& one : kept_) {
    const auto first = static_cast<double>(before + one.below + 1);
    before += uint64_t{one.below} + one.same;
    const auto last = static_cast<double>(before);
    const double error = std::max({wanted - last, first + one.spread - wanted, 0.0});
    if (error <= least) {
      least = error;
      found = one.value;
    }
  }
  return found;
}

void QuantileSketch::Clear() {
  kept_.clear();
  count_ = 0;
}

SlidingSummary::SlidingSummary(const std::vector<QuantileTarget>& targets, TimeNs now)
    : targets_(&targets), windows_(kWindows, QuantileSketch(LeastError(targets))), turned_(now) {}

void SlidingSummary::Observe(uint64_t value, TimeNs now) {
  Turn(now);
  ++count_;
  sum_ += value;
  waiting_.push_back(static_cast<uint32_t>(std::min<uint64_t>(value, std::numeric_limits<uint32_t>::max())));
  if (waiting_.size() >= kBurst) Settle();
}

SummaryValues SlidingSummary::Values(TimeNs now) {
  Turn(now);
  Settle();
  SummaryValues values{count_, sum_, {}};
  for (const QuantileTarget& target : *targets_) values.quantiles.push_back(windows_[oldest_].Query(target.quantile));
  return values;
}

// Empties the windows whose time is over.
void SlidingSummary::Turn(TimeNs now) {
  constexpr TimeNs kStep = kMaxAge / static_cast<TimeNs>(kWindows);
  if (now - turned_ < kStep) return;
  Settle();
  for (size_t i = 0; i < kWindows && now - turned_ >= kStep; ++i) {
    windows_[oldest_].Clear();
    oldest_ = (oldest_ + 1) % kWindows;
    turned_ += kStep;
  }
  turned_ += (now - turned_) / kStep * kStep;
}

void SlidingSummary::Settle() {
  if (waiting_.empty()) return;
  std::sort(waiting_.begin(), waiting_.end());
  for (QuantileSketch& window : windows_) window.Add(waiting_);
  waiting_.clear();
}

}  // namespace pyinfer
