// SPDX-License-Identifier: Apache-2.0
#include "protocol/grpc_keepalive.h"

#include <algorithm>

namespace pyinfer {
namespace {

// As often as TCP may be kept alive: without calls a client that may not ping has no reason to.
constexpr TimeNs kIntervalWithoutCalls = 7200 * KeepaliveOptions::kSecond;

// A number from 0.9 to 1.1 that differs for neighbours (the finalizer of splitmix64).
double Spread(uint64_t seed) {
  seed += 0x9e3779b97f4a7c15;
  seed = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9;
  seed = (seed ^ seed >> 27) * 0x94d049bb133111eb;
  return 0.9 + 0.2 * static_cast<double>((seed ^ seed >> 31) >> 11) * 0x1p-53;
}

}  // namespace

Keepalive::Keepalive(const KeepaliveOptions& options, TimeNs now, uint64_t seed)
    : options_(options), last_received_(now), ping_at_(options.time == 0 ? 0 : now + options.time) {
  if (options.max_age != 0) age_at_ = now + static_cast<TimeNs>(static_cast<double>(options.max_age) * Spread(seed));
}

void Keepalive::OnReceived(TimeNs now) {
  last_received_ = now;
  // Whatever came, the client lives.
  if (give_up_at_ == 0) return;
  give_up_at_ = 0;
  ping_at_ = now + options_.time;
}

void Keepalive::OnSentData() {
  last_ping_ = 0;
  strikes_ = pings_ = 0;
}

bool Keepalive::OnPing(TimeNs now, bool has_calls) {
  const TimeNs interval =
      has_calls || options_.permit_without_calls ? options_.min_ping_interval_without_data : kIntervalWithoutCalls;
  const bool too_soon = last_ping_ != 0 && now - last_ping_ < interval;
  last_ping_ = now;
  if (too_soon) ++strikes_;
  return options_.max_ping_strikes == 0 || strikes_ <= options_.max_ping_strikes;
}

Keepalive::Action Keepalive::Due(TimeNs now, bool has_calls) {
  const auto reached = [now](TimeNs time) { return time != 0 && now >= time; };
  if (reached(age_at_)) {
    age_at_ = 0;
    if (options_.max_age_grace != 0) grace_ends_at_ = now + options_.max_age_grace;
    return Action::kGoAway;
  }
  if (reached(grace_ends_at_) || reached(give_up_at_)) return Action::kGiveUp;
  if (!reached(ping_at_)) return Action::kNone;
  if (now - last_received_ < options_.time) {  // it has said something since this was set
    ping_at_ = last_received_ + options_.time;
    return Action::kNone;
  }
  ping_at_ = now + options_.time;
  if (!has_calls && !options_.permit_without_calls) return Action::kNone;
  if (options_.max_pings_without_data != 0 && pings_ >= options_.max_pings_without_data) return Action::kNone;
  ++pings_;
  ping_at_ = 0;
  give_up_at_ = now + options_.timeout;
  return Action::kPing;
}

TimeNs Keepalive::next() const {
  TimeNs next = 0;
  for (const TimeNs time : {ping_at_, give_up_at_, age_at_, grace_ends_at_}) {
    if (time != 0 && (next == 0 || time < next)) next = time;
  }
  return next;
}

}  // namespace pyinfer
