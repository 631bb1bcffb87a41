// SPDX-License-Identifier: Apache-2.0
// grpc_keepalive.h - when a silent client is pinged and given up, which of its own pings are too many, and how old a
// connection may become. Decides only: time is an argument.
//
// Source: gRPC's keepalive and connection management (its documents A8 and A9), with the options that Triton offers.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace pyinfer {

struct KeepaliveOptions {
  static constexpr TimeNs kSecond = 1'000'000'000;

  TimeNs time = 7200 * kSecond;   // that a client is silent before it is pinged; 0: it never is
  TimeNs timeout = 20 * kSecond;  // for its answer
  bool permit_without_calls = false;
  // Pings of ours while we send neither headers nor data; 0: any number.
  int64_t max_pings_without_data = 2;
  // Between two pings of the client while we send neither headers nor data.
  TimeNs min_ping_interval_without_data = 300 * kSecond;
  // Pings of the client that come too soon; 0: any number.
  int64_t max_ping_strikes = 2;
  TimeNs max_age = 0;        // of a connection, give or take a tenth; 0: any
  TimeNs max_age_grace = 0;  // for the calls that are open then; 0: as long as they take
};

class Keepalive {
 public:
  enum class Action {
    kNone,
    kPing,    // send a ping
    kGoAway,  // the connection is old: no more calls, finish those that are open
    kGiveUp,  // the client is gone, or the grace is over: close
  };

  // `options` outlives this. `seed` spreads the ages of connections that were made at the same time.
  Keepalive(const KeepaliveOptions& options, TimeNs now, uint64_t seed);

  // Bytes of the client.
  void OnReceived(TimeNs now);
  // Headers or data were sent.
  void OnSentData();
  // A ping of the client. False where it is one too many.
  bool OnPing(TimeNs now, bool has_calls);

  // What to do now; ask again at next() at the latest, and until it is kNone.
  Action Due(TimeNs now, bool has_calls);
  // 0: never.
  TimeNs next() const;

 private:
  const KeepaliveOptions& options_;
  TimeNs last_received_;
  TimeNs ping_at_;            // when the client will have been silent for long enough; 0: never
  TimeNs give_up_at_ = 0;     // 0: no ping of ours is unanswered
  TimeNs age_at_ = 0;         // 0: never, or it was
  TimeNs grace_ends_at_ = 0;  // 0: never
  TimeNs last_ping_ = 0;      // of the client; 0: none since data was sent
  int64_t strikes_ = 0;
  int64_t pings_ = 0;  // ours since data was sent
};

}  // namespace pyinfer
