// SPDX-License-Identifier: Apache-2.0
#include "sched/slo_policy.h"

#include <algorithm>

namespace pyinfer {

namespace {

struct Prefix {
  size_t requests = 0;
  int64_t rows = 0;
  TimeNs likely = 0;
};

// The batch with the most rows a second, of those that begin with request `from`, take at most `limit` and are done by
// the deadline of that request (0: whenever). The first request alone is one in any case.
Prefix BestPrefix(const SloView& view, size_t from, TimeNs now, TimeNs deadline, TimeNs limit,
                  const ServiceTimes& times) {
  Prefix best;
  double best_rate = 0;
  const int64_t reach = times.Reach();
  int64_t rows = 0;
  for (size_t i = from; i < view.first.size(); ++i) {
    rows += view.first[i].rows;
    const bool lone = i == from;
    if (!lone && rows > reach) break;
    const TimeNs likely = times.Likely(rows);
    if (!lone && times.Mean(rows) > limit) continue;
    if (!lone && deadline != 0 && now + likely > deadline) continue;
    // Of equal ones the larger: among sizes that were not seen yet it is the one that something is learned from.
    const double rate = static_cast<double>(rows) / static_cast<double>(std::max<TimeNs>(1, times.Mean(rows)));
    if (best.requests != 0 && rate < best_rate * 0.9999) continue;
    best = {i + 1 - from, rows, likely};
    best_rate = rate;
  }
  return best;
}

// The longest prefix of at most `most` rows that is done in time, if it has more than half of them.
Prefix TriedPrefix(const SloView& view, int64_t most, TimeNs now, TimeNs limit, const ServiceTimes& times) {
  Prefix tried;
  int64_t rows = 0;
  for (size_t i = 0; i < view.first.size(); ++i) {
    rows += view.first[i].rows;
    if (rows > most) break;
    tried = {i + 1, rows, times.Likely(rows)};
  }
  const bool fits = tried.likely <= limit && now + tried.likely <= view.first.front().deadline;
  return fits && 2 * tried.rows > most ? tried : Prefix();
}

// What can be answered in time of the requests of the view from `from` on, if the first of them go as `batch` and those
// after them as one batch more. What time costs others that may come is `price` for each nanosecond.
double Worth(const SloView& view, size_t from, const Prefix& batch, TimeNs now, double price,
             const ServiceTimes& times) {
  int64_t left = 0;
  for (size_t i = from + batch.requests; i < view.first.size(); ++i) left += view.first[i].rows;
  const TimeNs later = now + times.Likely(batch.rows) + (left == 0 ? 0 : times.Mean(left));
  int64_t served = batch.rows;
  for (size_t i = from + batch.requests; i < view.first.size(); ++i) {
    if (view.first[i].deadline >= later) served += view.first[i].rows;
  }
  return static_cast<double>(served) - price * static_cast<double>(later - now);
}

// The first request has so little time left that the best batch would be late for it: is a smaller one made for it, or
// are those given up that have no time for a larger one?
SloDecision Rescue(const SloView& view, TimeNs now, const ServiceTimes& times, TimeNs slo) {
  const ServiceTimes::Point best = times.Best(ExecutionBudget(slo));
  // Time is paid with those who come in it, as far as the model could answer them.
  const double possible = best.rows / std::max(1.0, best.mean_ns);
  const double arriving = view.interval > 0 ? 1 / static_cast<double>(view.interval) : 0;
  const double price = std::min(possible, arriving / static_cast<double>(view.instances));
  const Prefix small = BestPrefix(view, 0, now, view.first.front().deadline, ExecutionBudget(slo), times);
  SloDecision decision{0, small.requests, 0};
  double worth = Worth(view, 0, small, now, price, times);
  // In growing steps: the queue is not looked through again and again.
  for (size_t from = 1; from < view.first.size(); from += 1 + from / 4) {
    const Prefix later = BestPrefix(view, from, now, 0, ExecutionBudget(slo), times);
    if (now + later.likely > view.first[from].deadline) continue;
    if (Worth(view, from, later, now, price, times) > worth) decision = {from, later.requests, 0};
    break;
  }
  return decision;
}

}  // namespace

SloDecision DecideSlo(const SloView& view, TimeNs now, const ServiceTimes& times, TimeNs slo) {
  SloDecision decision;
  if (view.first.empty()) return decision;
  decision.take = 1;
  if (!times.known()) return decision;
  for (const int64_t rows : view.tries) {
    decision.take = TriedPrefix(view, rows, now, ExecutionBudget(slo), times).requests;
    if (decision.take != 0) return decision;
  }
  const Prefix best = BestPrefix(view, 0, now, 0, ExecutionBudget(slo), times);
  if (now + best.likely > view.first.front().deadline) return Rescue(view, now, times, slo);
  decision.take = best.requests;
  const bool all = best.requests == view.first.size() && !view.saturated;
  const bool lone = view.first.size() == 1 && view.running == 0;
  if (!all || lone || view.interval == 0) return decision;
  // One more row: worth its wait?
  const TimeNs next = view.last_arrival + view.interval;
  if (next <= now || best.rows + 1 > times.Reach()) return decision;
  const auto rate = [&](int64_t rows, TimeNs wait) {
    return static_cast<double>(rows) / static_cast<double>(std::max<TimeNs>(1, wait + times.Mean(rows)));
  };
  const TimeNs wait = next - now;
  const TimeNs likely = times.Likely(best.rows + 1);
  if (rate(best.rows + 1, wait) <= rate(best.rows, 0) || likely > ExecutionBudget(slo)) return decision;
  if (next + likely > view.first.front().deadline) return decision;
  decision.take = 0;
  decision.until = next;
  return decision;
}

TimeNs ExpectedAnswer(const SloView& view, int64_t rows, TimeNs now, const ServiceTimes& times, TimeNs slo) {
  ServiceTimes::Point best = times.Best(ExecutionBudget(slo));
  if (best.rows <= 0) return now;
  // What was not tried yet may be better than what was.
  for (int64_t more = 2 * times.largest(); more <= view.most_rows; more *= 2) {
    const auto mean = static_cast<double>(times.Mean(more));
    if (mean > static_cast<double>(slo) / 2) break;
    if (static_cast<double>(more) * best.mean_ns > best.rows * mean)
      best = {static_cast<double>(more), mean, 0, 0, more};
  }
  // In rounds: each instance takes a batch of the best size.
  const auto size = std::max<int64_t>(1, static_cast<int64_t>(best.rows + 0.5));
  const int64_t round = size * static_cast<int64_t>(std::max<size_t>(1, view.instances));
  const int64_t rounds = view.rows_waiting / round;
  const int64_t left = view.rows_waiting - rounds * round;
  const TimeNs begin = std::max(now, view.free_at) + rounds * static_cast<TimeNs>(best.mean_ns);
  return begin + times.Mean(std::max(rows, std::min(size, left + rows)));
}

}  // namespace pyinfer
