// SPDX-License-Identifier: Apache-2.0
#include "sched/service_time.h"

#include <algorithm>
#include <cmath>

namespace pyinfer {
namespace {

constexpr double kLeastWeight = 1.0 / 16;  // of a new execution in a mean
constexpr double kWidest = 4;              // deviations that one execution may be away from the mean before it is cut
constexpr double kLeastDeviation = 0.02;   // of the mean, when something is cut: a steady model would follow nothing
constexpr int kChange = 3;                 // executions in a row that are cut on one side: a change, no strays
constexpr double kFirstDeviation = 0.1;    // of the first execution's time
constexpr uint64_t kTrusted = 2;           // executions of a size that are enough to believe them
// Among fewer, one that takes so much less than those before shows that they were slow.
constexpr double kUnlucky = 0.6;
// So many times the most rows yet may be tried, or so many if they are expected to take no more than so many times as
// long.
constexpr int64_t kGrowth = 2;
constexpr int64_t kLeap = 4;
constexpr double kLeapTime = 2;
constexpr uint64_t kForgotten = 256;  // executions of other sizes after which one is learned anew
// A size with fewer is to be tried again as if it had not been seen for so many times longer.
constexpr uint64_t kDoubted = 16;

}  // namespace

// 1, 2, 3, 4, 5-6, 7-8, 9-12, 13-16, ...
size_t ServiceTimes::IndexOf(int64_t rows) {
  if (rows <= 2) return static_cast<size_t>(rows - 1);
  size_t octave = 0;
  int64_t below = rows - 1;
  while (below > 1) {
    below >>= 1;
    ++octave;
  }
  const bool upper = (rows - 1) >> (octave - 1) & 1;
  return 2 * octave + (upper ? 1 : 0);
}

int64_t ServiceTimes::MostOf(size_t index) {
  if (index < 2) return static_cast<int64_t>(index) + 1;
  const int64_t half = int64_t{1} << (index / 2 - 1);
  return 2 * half + (index % 2 == 0 ? half : 2 * half);
}

void ServiceTimes::Add(int64_t rows, TimeNs took) {
  ++executions_;
  const size_t index = IndexOf(rows);
  if (index >= cells_.size()) cells_.resize(index + 1);
  Cell& cell = cells_[index];
  if (executions_ - cell.last > kForgotten) cell = {};  // as good as unknown
  const auto time = static_cast<double>(std::max<TimeNs>(took, 1));
  const double weight = std::max(kLeastWeight, 1.0 / static_cast<double>(cell.executions + 1));
  const double widest = kWidest * std::max(cell.deviation_ns, kLeastDeviation * cell.mean_ns);
  const double off = std::clamp(time - cell.mean_ns, -widest, widest);
  const int side = off >= widest ? 1 : off <= -widest ? -1 : 0;
  cell.strays = side != 0 && (cell.strays > 0) == (side > 0) ? cell.strays + side : side;
  const bool unlucky = cell.executions < kTrusted && time < kUnlucky * cell.mean_ns;
  if (cell.executions == 0 || unlucky || std::abs(cell.strays) >= kChange) {
    cell = {};
    cell.rows = static_cast<double>(rows);
    cell.mean_ns = time;
    cell.deviation_ns = kFirstDeviation * time;
  } else {
    cell.rows += weight * (static_cast<double>(rows) - cell.rows);
    cell.mean_ns += weight * off;
    cell.deviation_ns += weight * (std::abs(off) - cell.deviation_ns);
  }
  ++cell.executions;
  cell.most_rows = MostOf(index);
  cell.last = executions_;
  points_ = Points();
  // One that may have had bad luck is no step towards larger ones.
  if (At(rows).mean_ns >= cell.mean_ns) largest_ = std::max(largest_, rows);
}

// Few executions may all have had bad luck: until there are more, they are not believed to have done worse than the
// nearest smaller size, row by row. So a size is looked at often enough before it is left.
ServiceTimes::Point ServiceTimes::Believed(const Cell& cell, const Point* below) {
  if (below == nullptr || cell.executions >= kTrusted) return cell;
  const double most = below->mean_ns * cell.rows / below->rows;
  if (cell.mean_ns <= most) return cell;
  return {cell.rows, most, kFirstDeviation * most, cell.executions, cell.most_rows};
}

std::vector<ServiceTimes::Point> ServiceTimes::Points() const {
  std::vector<Point> points;
  points.reserve(cells_.size());
  for (const Cell& cell : cells_) {
    if (cell.executions != 0) points.push_back(Believed(cell, points.empty() ? nullptr : &points.back()));
  }
  return points;
}

ServiceTimes::Point ServiceTimes::At(int64_t rows) const {
  if (points_.empty()) return {};
  const auto wanted = static_cast<double>(rows);
  const auto above = std::lower_bound(points_.begin(), points_.end(), wanted,
                                      [](const Point& point, double value) { return point.rows < value; });
  if (above == points_.begin()) {
    // Smaller than all that was seen: somewhere between as long as that and its share of it.
    const double share = 0.5 + 0.5 * wanted / above->rows;
    return {wanted, above->mean_ns * share, above->deviation_ns * share, 0, 0};
  }
  const Point& below = *std::prev(above);
  const bool last = above == points_.end();
  const int64_t next = Next(below.most_rows);
  const int64_t end = last ? INT64_MAX : above->most_rows == next ? below.most_rows : next;
  // What was not seen is not left out for what larger sizes do: the line that led to the size below it goes on, through
  // the next size if that was never seen, and beyond the last.
  if (rows <= end) {
    const Point& first = points_.front();
    const double slope = &first == &below ? 0 : (below.mean_ns - first.mean_ns) / (below.rows - first.rows);
    const double times = 1 + std::clamp(slope / below.mean_ns, 0.0, 1 / below.rows) * (wanted - below.rows);
    return {wanted, below.mean_ns * times, below.deviation_ns * times, 0, 0};
  }
  const double to = (wanted - below.rows) / (above->rows - below.rows);
  return {wanted, below.mean_ns + to * (above->mean_ns - below.mean_ns),
          below.deviation_ns + to * (above->deviation_ns - below.deviation_ns), 0, 0};
}

TimeNs ServiceTimes::Likely(int64_t rows) const {
  const Point at = At(rows);
  return static_cast<TimeNs>(at.mean_ns + at.deviation_ns / 2);
}

TimeNs ServiceTimes::AtLeast(int64_t rows) const {
  const Point at = At(rows);
  return static_cast<TimeNs>(std::max(at.mean_ns / 2, at.mean_ns - 1.5 * at.deviation_ns));
}

int64_t ServiceTimes::Reach() const {
  const int64_t most = std::max<int64_t>(1, largest_);
  const bool leap = points_.size() > 1 && At(kLeap * most).mean_ns <= kLeapTime * At(most).mean_ns;
  return (leap ? kLeap : kGrowth) * most;
}

uint64_t ServiceTimes::Age(int64_t rows) const {
  const size_t index = IndexOf(rows);
  if (index >= cells_.size() || cells_[index].executions == 0) return executions_;
  const Cell& cell = cells_[index];
  const uint64_t age = executions_ - cell.last;
  return cell.executions < kTrusted ? age * kDoubted : age;
}

ServiceTimes::Point ServiceTimes::Best(TimeNs limit) const {
  const Point* best = nullptr;
  const Point* quickest = nullptr;
  for (const Point& point : points_) {
    if (quickest == nullptr || point.mean_ns < quickest->mean_ns) quickest = &point;
    if (point.mean_ns > static_cast<double>(limit)) continue;
    if (best == nullptr || point.rows * best->mean_ns > best->rows * point.mean_ns) best = &point;
  }
  if (best == nullptr) best = quickest;
  if (best == nullptr) return {};
  return *best;
}

}  // namespace pyinfer
