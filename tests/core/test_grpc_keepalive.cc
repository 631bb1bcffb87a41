// SPDX-License-Identifier: Apache-2.0
#include <set>
#include <string>

#include "check.h"
#include "grpc_fixtures.h"
#include "protocol/grpc_keepalive.h"

namespace pyinfer {
namespace {

using testing::GrpcPair;
using testing::kLive;
using testing::MakeOptions;
using Action = Keepalive::Action;

constexpr TimeNs kStart = 1000;

KeepaliveOptions Options() {
  KeepaliveOptions options;
  options.time = 100;
  options.timeout = 20;
  options.min_ping_interval_without_data = 50;
  return options;
}

TEST(Keepalive, PingsASilentClientThatHasCalls) {
  const KeepaliveOptions options = Options();
  Keepalive keepalive(options, kStart, 0);
  CHECK_EQ(keepalive.next(), kStart + 100);
  CHECK(keepalive.Due(kStart + 99, true) == Action::kNone);
  keepalive.OnReceived(kStart + 60);
  CHECK(keepalive.Due(kStart + 100, true) == Action::kNone);
  CHECK_EQ(keepalive.next(), kStart + 160);
  CHECK(keepalive.Due(kStart + 160, true) == Action::kPing);
  CHECK_EQ(keepalive.next(), kStart + 180);
  keepalive.OnReceived(kStart + 170);  // the answer, or anything else
  CHECK(keepalive.Due(kStart + 180, true) == Action::kNone);
  CHECK_EQ(keepalive.next(), kStart + 270);
}

TEST(Keepalive, GivesUpAClientThatDoesNotAnswer) {
  const KeepaliveOptions options = Options();
  Keepalive keepalive(options, kStart, 0);
  CHECK(keepalive.Due(kStart + 100, true) == Action::kPing);
  CHECK(keepalive.Due(kStart + 119, true) == Action::kNone);
  CHECK(keepalive.Due(kStart + 120, true) == Action::kGiveUp);
}

TEST(Keepalive, WithoutCallsOnlyWhereItIsPermitted) {
  KeepaliveOptions options = Options();
  Keepalive strict(options, kStart, 0);
  CHECK(strict.Due(kStart + 100, false) == Action::kNone);
  CHECK_EQ(strict.next(), kStart + 200);
  options.permit_without_calls = true;
  Keepalive keepalive(options, kStart, 0);
  CHECK(keepalive.Due(kStart + 100, false) == Action::kPing);
}

TEST(Keepalive, FewPingsWithoutData) {
  for (const int64_t most : {int64_t{0}, int64_t{2}}) {
    KeepaliveOptions options = Options();
    options.max_pings_without_data = most;
    Keepalive keepalive(options, kStart, 0);
    TimeNs now = kStart;
    int pings = 0;
    for (int i = 0; i < 10; ++i) {
      now = keepalive.next();
      if (keepalive.Due(now, true) != Action::kPing) continue;
      ++pings;
      keepalive.OnReceived(now);
    }
    CHECK_EQ(pings, most == 0 ? 10 : 2);
    keepalive.OnSentData();
    CHECK(keepalive.Due(keepalive.next(), true) == Action::kPing);
  }
}

TEST(Keepalive, NeverMeansNever) {
  KeepaliveOptions options;
  options.time = 0;
  Keepalive keepalive(options, kStart, 0);
  CHECK_EQ(keepalive.next(), TimeNs{0});
  CHECK(keepalive.Due(INT64_MAX, true) == Action::kNone);
}

TEST(Keepalive, PingsOfTheClientThatComeTooSoonAreStrikes) {
  const KeepaliveOptions options = Options();
  Keepalive keepalive(options, kStart, 0);
  CHECK(keepalive.OnPing(kStart, true));
  CHECK(keepalive.OnPing(kStart + 50, true));   // not too soon
  CHECK(keepalive.OnPing(kStart + 99, true));   // one
  CHECK(keepalive.OnPing(kStart + 100, true));  // two
  keepalive.OnSentData();                       // forgotten
  CHECK(keepalive.OnPing(kStart + 101, true));
  CHECK(keepalive.OnPing(kStart + 102, true));
  CHECK(keepalive.OnPing(kStart + 103, true));
  CHECK(!keepalive.OnPing(kStart + 104, true));
}

TEST(Keepalive, WithoutCallsPingsMayComeEveryTwoHours) {
  KeepaliveOptions options = Options();
  options.max_ping_strikes = 1;
  const TimeNs hour = 3600 * KeepaliveOptions::kSecond;
  Keepalive strict(options, kStart, 0);
  CHECK(strict.OnPing(kStart, false));
  CHECK(strict.OnPing(kStart + 2 * hour, false));
  CHECK(strict.OnPing(kStart + 3 * hour, false));
  CHECK(!strict.OnPing(kStart + 4 * hour, false));
  options.permit_without_calls = true;
  Keepalive keepalive(options, kStart, 0);
  for (TimeNs now = kStart; now < kStart + 1000; now += 50) CHECK(keepalive.OnPing(now, false));
}

TEST(Keepalive, NoLimitOnStrikes) {
  KeepaliveOptions options = Options();
  options.max_ping_strikes = 0;
  Keepalive keepalive(options, kStart, 0);
  for (int i = 0; i < 100; ++i) CHECK(keepalive.OnPing(kStart, true));
}

TEST(Keepalive, OldConnectionsGo) {
  KeepaliveOptions options = Options();
  options.time = 0;
  options.max_age = 1000;
  options.max_age_grace = 300;
  std::set<TimeNs> ages;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Keepalive keepalive(options, kStart, seed);
    const TimeNs end = keepalive.next();
    ages.insert(end - kStart);
    CHECK(end >= kStart + 900 && end <= kStart + 1100);
    CHECK(keepalive.Due(end - 1, true) == Action::kNone);
    CHECK(keepalive.Due(end, true) == Action::kGoAway);
    CHECK(keepalive.Due(end, true) == Action::kNone);
    CHECK_EQ(keepalive.next(), end + 300);
    CHECK(keepalive.Due(end + 300, true) == Action::kGiveUp);
  }
  CHECK(ages.size() > 50);
  options.max_age_grace = 0;
  Keepalive keepalive(options, kStart, 0);
  CHECK(keepalive.Due(keepalive.next(), true) == Action::kGoAway);
  CHECK_EQ(keepalive.next(), TimeNs{0});
}

// --- over a connection ---

GrpcConnection::Options Kept() {
  GrpcConnection::Options options = MakeOptions();
  options.keepalive = Options();
  options.keepalive.max_ping_strikes = 2;
  return options;
}

TEST(Keepalive, AClientIsPingedOverHttp2) {
  GrpcPair pair(Kept());
  pair.engine->answering = false;
  pair.Infer("a");
  pair.Exchange();
  pair.engine->now += 100;
  CHECK_EQ(pair.mailbox->NextFlush(), pair.engine->now);
  pair.Exchange();
  CHECK_EQ(pair.client.pings, size_t{1});
  pair.engine->now += 19;
  pair.Exchange();
  CHECK(!pair.closed);  // it has answered
  pair.engine->now += 81;
  const std::string ping = pair.Flush();
  CHECK(!ping.empty());
  pair.engine->now += 20;
  pair.Flush();
  CHECK(pair.closed);
  pair.connection->Close();
  CHECK_EQ(pair.mailbox->NextFlush(), TimeNs{0});
}

TEST(Keepalive, TooManyPings) {
  GrpcPair pair(Kept());
  pair.engine->answering = false;
  pair.Infer("a");
  pair.Exchange();
  for (int i = 0; i < 3; ++i) {
    pair.client.Ping();
    pair.Exchange();
    CHECK(!pair.client.goaway);
  }
  pair.client.Ping();
  pair.Exchange();
  CHECK(pair.client.goaway && pair.closed);
  CHECK_EQ(pair.client.goaway_code, uint32_t{NGHTTP2_ENHANCE_YOUR_CALM});
  CHECK_EQ(pair.client.goaway_reason, "too_many_pings");
}

TEST(Keepalive, PingsBetweenAnswersAreFine) {
  GrpcPair pair(Kept());
  for (int i = 0; i < 100; ++i) {
    pair.client.Ping();
    const int32_t stream = pair.Infer("a");
    pair.Exchange();
    pair.CheckAnswered(stream, "a");
  }
  CHECK(!pair.client.goaway);
}

TEST(Keepalive, AnOldConnectionFinishesItsCalls) {
  GrpcConnection::Options options = Kept();
  options.keepalive.time = 0;
  options.keepalive.max_age = 1000;
  options.keepalive.max_age_grace = 100;
  for (const bool in_time : {true, false}) {
    GrpcPair pair(options);
    pair.engine->answering = false;
    const int32_t stream = pair.Infer("a");
    pair.Exchange();
    pair.engine->now += 1100;
    pair.Exchange();
    CHECK(pair.client.goaway && !pair.closed);
    CHECK_EQ(pair.client.goaway_code, uint32_t{NGHTTP2_NO_ERROR});
    CHECK_EQ(pair.client.goaway_reason, "max_age");
    CHECK_EQ(pair.client.goaway_last, stream);
    if (in_time) {
      pair.engine->answering = true;
      pair.Exchange();
      pair.CheckAnswered(stream, "a");
    } else {
      pair.engine->now += 100;
      pair.Exchange();
    }
    CHECK(pair.closed);
  }
}

TEST(Keepalive, AnOldConnectionWithoutCallsIsClosed) {
  GrpcConnection::Options options = Kept();
  options.keepalive.max_age = 10;
  GrpcPair pair(options);
  pair.Exchange();
  pair.engine->now += 11;
  pair.Exchange();
  CHECK(pair.client.goaway && pair.closed);
}

}  // namespace
}  // namespace pyinfer
