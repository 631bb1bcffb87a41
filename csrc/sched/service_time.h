// SPDX-License-Identifier: Apache-2.0
// service_time.h - how long an execution of n rows takes, learned from those that were seen.
//
// No shape of the curve is assumed: a batch may take longer than its rows one by one. Sizes near each other share a
// cell, at most two for each doubling; between cells lies a straight line. Beyond the last one, and in a gap where
// nothing was seen, the line goes on that led from the first to there: what is not known is taken to be worth a look.
// Each cell is a mean that forgets and a mean deviation. One execution moves a mean by a few deviations at most, so
// that a stray pause does little, while a change that stays widens the deviation and is followed within some
// executions. Not thread safe; reads no clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/clock.h"

namespace pyinfer {

class ServiceTimes {
 public:
  struct Point {
    double rows = 0;  // mean of those that were executed
    double mean_ns = 0;
    double deviation_ns = 0;  // mean absolute
    uint64_t executions = 0;
    int64_t most_rows = 0;  // of an execution that counts here
  };

  // An execution of `rows` took `took`. Requires: rows > 0.
  void Add(int64_t rows, TimeNs took);

  bool known() const { return executions_ != 0; }
  uint64_t executions() const { return executions_; }
  // What it probably takes; 0 while nothing is known. Requires: rows > 0.
  TimeNs Mean(int64_t rows) const { return static_cast<TimeNs>(At(rows).mean_ns); }
  // Most executions take no longer.
  TimeNs Likely(int64_t rows) const;
  // Few executions take less.
  TimeNs AtLeast(int64_t rows) const;

  // The most rows in an execution yet; 0 while nothing is known.
  int64_t largest() const { return largest_; }
  // The most rows that an execution may have for what is not known to be learned at little risk: twice as many as ever,
  // four times as many where that is expected to take at most twice as long.
  int64_t Reach() const;
  // How many executions ago one of about this size was seen (the smaller its sample, the longer ago); all of them where
  // there was none.
  uint64_t Age(int64_t rows) const;
  // Of the sizes seen whose time is at most `limit`, the one with the most rows a second; the one that takes least
  // where none is within the limit. Nothing has 0 rows.
  Point Best(TimeNs limit) const;
  // What was learned, by size.
  const std::vector<Point>& points() const { return points_; }

 private:
  struct Cell : Point {
    uint64_t last = 0;  // number of the execution
    int strays = 0;     // in a row on one side, that of its sign
  };

  static size_t IndexOf(int64_t rows);
  static int64_t MostOf(size_t index);
  // The next larger size that is told apart from `rows`.
  static int64_t Next(int64_t rows) { return MostOf(IndexOf(rows) + 1); }
  std::vector<Point> Points() const;
  static Point Believed(const Cell& cell, const Point* below);
  Point At(int64_t rows) const;

  std::vector<Cell> cells_;
  std::vector<Point> points_;  // of the cells with executions
  uint64_t executions_ = 0;
  int64_t largest_ = 0;
};

}  // namespace pyinfer
