// SPDX-License-Identifier: Apache-2.0
// A load and a server with known delays, over real sockets, on one clock that the test moves: what the load measures is
// held against what the server did. No time of the machine is in it.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <future>
#include <memory>
#include <queue>
#include <set>
#include <vector>

#include "check.h"
#include "load_bench.h"

namespace pyinfer {
namespace {

constexpr double kPercents[] = {50, 90, 95, 99, 99.9};

void CheckNear(const LatencyHistogram& measured, const LatencyHistogram& truth) {
  for (const double percent : kPercents) {
    const auto is = static_cast<double>(measured.Percentile(percent));
    const auto should = static_cast<double>(truth.Percentile(percent));
    if (std::abs(is - should) > 0.02 * should)
      CHECK_EQ(std::to_string(percent) + ": " + std::to_string(is), std::to_string(should));
  }
}

FakeServerOptions Spread() {
  FakeServerOptions fake;
  fake.delays.clear();
  for (int i = 0; i < 1000; ++i) fake.delays.push_back((5 + (i * 7919) % 40) * kMs);
  fake.delays[500] = 300 * kMs;
  return fake;
}

LoadOptions Closed(LoadProtocol protocol, uint32_t concurrency, uint32_t connections) {
  LoadOptions load;
  load.protocol = protocol;
  load.concurrency = concurrency;
  load.connections = connections;
  return load;
}

LoadOptions Open(LoadProtocol protocol, double rate, uint32_t connections, bool poisson = false) {
  LoadOptions load;
  load.protocol = protocol;
  load.connections = connections;
  const auto kind = poisson ? Schedule::Kind::kPoisson : Schedule::Kind::kConstant;
  load.schedule = std::make_shared<const Schedule>(Schedule{kind, rate, 3, {}});
  return load;
}

TEST(LoadWorker, ClosedLoopMeasuresWhatTheServerDid) {
  for (const LoadProtocol protocol : {LoadProtocol::kGrpc, LoadProtocol::kHttp}) {
    LoadBench bench(Spread(), Closed(protocol, 16, protocol == LoadProtocol::kHttp ? 16 : 4));
    bench.Play(6 * kS);
    const LoadWindow window = bench.Take();
    const FakeServerReport report = bench.server->Report();
    CHECK(report.served.count() > 3000);
    CHECK_EQ(window.latency.count(), report.served.count());
    CHECK_EQ(window.unanswered, 16u);
    CHECK_EQ(report.inferences, report.served.count() + 16);
    CheckNear(window.latency, report.served);
    CHECK(window.failed == 0 && window.errors.empty());
  }
}

TEST(LoadWorker, OpenLoopMeasuresWhatTheServerDid) {
  for (const bool poisson : {false, true}) {
    for (const LoadProtocol protocol : {LoadProtocol::kGrpc, LoadProtocol::kHttp}) {
      LoadBench bench(Spread(), Open(protocol, 1000, protocol == LoadProtocol::kHttp ? 200 : 4, poisson));
      bench.Play(6 * kS);
      const LoadWindow window = bench.Take();
      const FakeServerReport report = bench.server->Report();
      CHECK(std::abs(static_cast<double>(report.inferences) - 6000) < (poisson ? 400 : 2));
      CHECK_EQ(window.latency.count(), report.served.count());
      CheckNear(window.latency, report.served);
      CHECK(window.send_delay.Percentile(99) <= 2 * kStep);
    }
  }
}

// It becomes due between a look at what is due and the wait for sockets, of which none has anything to tell; and it is
// more than is sent between two such waits.
TEST(LoadWorker, WhatIsDueWaitsForNoSocket) {
  FakeServerOptions fake;
  fake.delays = {kMs};
  LoadBench bench(std::move(fake), Open(LoadProtocol::kHttp, 1000, 500));
  bench.Play(10 * kMs);
  bench.Take();
  bench.clock.Advance(400 * kMs);
  for (int i = 0; i < 2; ++i) {
    const auto turn = std::async(std::launch::async, [&] { bench.worker->Turn(100 * kS); });
    CHECK(turn.wait_for(std::chrono::seconds(60)) == std::future_status::ready);
  }
  CHECK(bench.Take().unanswered >= 400);
}

FakeServerOptions Stalling() {
  FakeServerOptions fake;
  fake.delays = {5 * kMs};
  fake.stalls = {{2 * kS, 1 * kS}};
  return fake;
}

TEST(LoadWorker, OpenLoopShowsAStall) {
  LoadBench bench(Stalling(), Open(LoadProtocol::kGrpc, 1000, 8));
  bench.Play(6 * kS);
  const LoadWindow window = bench.Take();
  CheckNear(window.latency, bench.server->Report().served);
  // a sixth of all requests fell into it
  CHECK(window.latency.Percentile(99) > 900 * kMs);
  CHECK(window.latency.Percentile(90) > 300 * kMs);
}

// There are not enough connections to send what is due during the stall. Whoever asked for an answer then does not
// care: the truth is that of a queue before so many servers.
TEST(LoadWorker, LatencyCountsFromWhenTheRequestWasToBeSent) {
  constexpr uint32_t kConnections = 20;
  LoadBench bench(Stalling(), Open(LoadProtocol::kHttp, 1000, kConnections));
  bench.Play(6 * kS);
  const LoadWindow window = bench.Take();
  LatencyHistogram truth;
  std::priority_queue<TimeNs, std::vector<TimeNs>, std::greater<>> free_at;
  for (uint32_t i = 0; i < kConnections; ++i) free_at.push(0);
  for (TimeNs intended = 0; intended < 6 * kS; intended += kMs) {
    TimeNs end = std::max(intended, free_at.top()) + 5 * kMs;
    free_at.pop();
    if (end >= 2 * kS && end < 3 * kS) end = 3 * kS;
    free_at.push(end);
    truth.Record(end - intended);
  }
  CheckNear(window.latency, truth);
  CHECK(window.send_delay.Percentile(99) > 800 * kMs);
}

TEST(LoadWorker, ClosedLoopHidesAStallAndCorrectionShowsIt) {
  LoadBench bench(Stalling(), Closed(LoadProtocol::kGrpc, 4, 1));
  bench.Play(6 * kS);
  const LoadWindow window = bench.Take();
  CHECK(window.latency.Percentile(99) < 6 * kMs);
  CHECK(window.latency.max() >= 990 * kMs);
  const TimeNs usual = window.latency.Percentile(50);
  CHECK(window.latency.Corrected(usual).Percentile(99) > 900 * kMs);
}

TEST(LoadWorker, WhatIsNotAnsweredIsTold) {
  FakeServerOptions never;
  never.delays = {3600 * kS};
  LoadBench bench(never, Open(LoadProtocol::kHttp, 100, 10));
  bench.Play(1 * kS);
  const LoadWindow window = bench.Take();
  CHECK_EQ(window.latency.count(), 0u);
  CHECK_EQ(window.unanswered, 10u);
  CHECK(window.overdue >= 89 && window.overdue <= 91);
  CHECK(window.oldest_ns >= 999 * kMs && window.oldest_ns <= 1001 * kMs);
}

TEST(LoadWorker, WindowsShareOutTheRequests) {
  LoadBench bench(Spread(), Closed(LoadProtocol::kGrpc, 8, 2));
  LoadWindow sum;
  for (int i = 0; i < 10; ++i) {
    bench.Play(200 * kMs);
    const LoadWindow window = bench.Take();
    CHECK_EQ(window.ended, bench.clock.Now());
    sum.Merge(window);
  }
  CHECK_EQ(sum.latency.count(), bench.server->Report().served.count());
}

TEST(LoadWorker, ErrorsAreCountedByTextAndHaveNoLatency) {
  for (const LoadProtocol protocol : {LoadProtocol::kGrpc, LoadProtocol::kHttp}) {
    FakeServerOptions fake = Spread();
    fake.error_every = 10;
    LoadBench bench(fake, Closed(protocol, 4, 4));
    bench.Play(2 * kS);
    const LoadWindow window = bench.Take();
    const FakeServerReport report = bench.server->Report();
    CHECK_EQ(window.errors.size(), 1u);
    CHECK_EQ(window.errors.begin()->first, protocol == LoadProtocol::kGrpc
                                               ? "INVALID_ARGUMENT: injected error"
                                               : "HTTP status 400: {\"error\":\"injected error\"}");
    CHECK_EQ(window.failed, report.errors);
    CHECK_EQ(window.latency.count(), report.served.count());
  }
}

// Each answer: the first response after a delay of the list, three more 7 ms apart.
TEST(LoadWorker, StreamsMeasureFirstResponsesAndGaps) {
  for (const LoadProtocol protocol : {LoadProtocol::kGrpcStream, LoadProtocol::kHttp}) {
    for (const bool closed : {true, false}) {
      FakeServerOptions fake = Spread();
      fake.responses = 4;
      fake.gap = 7 * kMs;
      const uint32_t connections = protocol == LoadProtocol::kHttp ? 64 : 4;
      LoadOptions load = closed ? Closed(protocol, 64, connections) : Open(protocol, 500, connections);
      load.record = load.streamed = true;
      LoadBench bench(fake, load);
      bench.Play(4 * kS);
      const LoadWindow window = bench.Take();
      const FakeServerReport report = bench.server->Report();
      CHECK(report.served.count() > 1500);
      CHECK_EQ(window.latency.count(), report.served.count());
      CHECK_EQ(window.streamed.responses, report.responses);
      CHECK_EQ(window.streamed.tokens, static_cast<int64_t>(report.responses));
      CHECK_EQ(window.streamed.first.count(), report.first.count());
      CheckNear(window.latency, report.served);
      CheckNear(window.streamed.first, report.first);
      CheckNear(window.streamed.gap, report.gap);
      CHECK_EQ(window.streamed.token.count(), window.latency.count());
      CHECK(std::abs(window.streamed.token.mean() - 7e6) < 0.02 * 7e6);
      CHECK_EQ(window.response_records.size(), 5 * window.records.size());
      CHECK_EQ(window.response_records[0], 4);
      CHECK(window.response_records[1] > window.records[0][0] && window.response_records[4] == window.records[0][2]);
    }
  }
}

TEST(LoadWorker, ErrorsOfStreamsAreThoseOfTheirRequests) {
  for (const LoadProtocol protocol : {LoadProtocol::kGrpcStream, LoadProtocol::kHttp}) {
    FakeServerOptions fake = Spread();
    fake.responses = 2;
    fake.error_every = 10;
    LoadOptions load = Closed(protocol, 8, 8);
    load.streamed = true;
    LoadBench bench(fake, load);
    bench.Play(2 * kS);
    const LoadWindow window = bench.Take();
    const FakeServerReport report = bench.server->Report();
    CHECK_EQ(window.failed, report.errors);
    CHECK_EQ(window.errors.begin()->first, protocol == LoadProtocol::kGrpcStream
                                               ? "injected error"
                                               : "HTTP status 400: {\"error\":\"injected error\"}");
    CHECK_EQ(window.latency.count(), report.served.count());
    CHECK_EQ(window.streamed.responses, report.responses);
  }
}

// Two requests, then three more each time that all of the latest have had two responses; eight in all, each sent once.
TEST(LoadWorker, ConcurrencyGrowsWithTheResponses) {
  for (const LoadProtocol protocol : {LoadProtocol::kGrpcStream, LoadProtocol::kHttp}) {
    FakeServerOptions fake = Spread();
    fake.responses = 4;
    fake.gap = 7 * kMs;
    LoadOptions load = Closed(protocol, 8, protocol == LoadProtocol::kHttp ? 8 : 2);
    load.record = load.streamed = true;
    load.ramp = {2, 3, 8, 2};
    LoadBench bench(fake, load);
    bench.Play(1 * kS);
    CHECK(bench.worker->exhausted());
    CHECK_EQ(bench.worker->responses(), 32u);
    CHECK_EQ(bench.server->Report().inferences, 8u);
    const LoadWindow window = bench.Take();
    std::vector<std::pair<TimeNs, TimeNs>> requests;  // when it was sent, and when its second response came
    for (size_t i = 0; i < window.records.size(); ++i) {
      requests.emplace_back(window.records[i][1], window.response_records[5 * i + 2]);
    }
    std::sort(requests.begin(), requests.end());
    CHECK_EQ(requests.size(), 8u);
    for (const auto& [first, last] : {std::pair<size_t, size_t>{0, 2}, {2, 5}}) {
      TimeNs passed = 0;
      for (size_t i = first; i < last; ++i) passed = std::max(passed, requests[i].second);
      for (size_t i = last; i < last + 3; ++i) CHECK_EQ(requests[i].first, passed);
    }
  }
}

// Requests that fail, or are over sooner, hold nobody up.
TEST(LoadWorker, ConcurrencyGrowsWithRequestsThatAreOver) {
  for (const LoadProtocol protocol : {LoadProtocol::kGrpc, LoadProtocol::kGrpcStream, LoadProtocol::kHttp}) {
    FakeServerOptions fake = Spread();
    fake.error_every = 3;
    LoadOptions load = Closed(protocol, 20, 20);
    load.streamed = protocol == LoadProtocol::kGrpcStream;
    load.ramp = {1, 4, 20, 10};
    LoadBench bench(fake, load);
    bench.Play(3 * kS);
    CHECK(bench.worker->exhausted());
    const LoadWindow window = bench.Take();
    CHECK_EQ(window.failed, 6u);
    CHECK_EQ(window.latency.count(), 14u);
  }
}

// What is open when a load pauses is ended, and nothing else is sent.
TEST(LoadWorker, SequencesAreEnded) {
  for (const bool closed : {true, false}) {
    for (const LoadProtocol protocol : {LoadProtocol::kGrpc, LoadProtocol::kGrpcStream}) {
      LoadOptions load = closed ? Closed(protocol, 6, 2) : Open(protocol, 500, 2);
      load.sequences.live = 6;
      load.sequences.length = 1000;
      load.sequences.data = {{0, 1}};
      load.sequences.serial = true;
      load.record = true;
      LoadBench bench(Spread(), load);
      bench.Play(1 * kS);
      CHECK_EQ(bench.Take().failed, 0u);
      const uint64_t before = bench.server->Report().inferences;
      bench.worker->Pause();
      bench.Play(1 * kS);
      CHECK(bench.worker->settled());
      CHECK_EQ(bench.server->Report().inferences, before + 6);
      const LoadWindow rest = bench.Take();
      CHECK_EQ(rest.failed + rest.unanswered, 0u);
      CHECK_EQ(rest.sequence_records.size(), rest.records.size());
    }
  }
}

// Several steps of a sequence are on their way when one is refused: only that sequence is given up, not its successor.
TEST(LoadWorker, LateErrorsOfASequenceAreItsOwn) {
  FakeServerOptions fake = Spread();
  fake.error_every = 2;
  LoadOptions load = Open(LoadProtocol::kGrpc, 500, 1);
  load.sequences.live = 1;
  load.sequences.length = 1000;
  load.sequences.data = {{0, 1}};
  load.record = true;
  LoadBench bench(fake, load);
  bench.Play(2 * kS);
  const LoadWindow window = bench.Take();
  std::set<uint64_t> begun, refused;
  for (size_t i = 0; i < window.records.size(); ++i) {
    begun.insert(window.sequence_records[i]);
    if (window.records[i][4] != 0) refused.insert(window.sequence_records[i]);
  }
  CHECK(refused.size() > 10);
  CHECK(begun.size() <= refused.size() + 1);
}

TEST(LoadWorker, BudgetIsExact) {
  LoadOptions load = Closed(LoadProtocol::kGrpc, 7, 3);
  load.max_requests = 100;
  load.record = true;
  LoadBench bench(Spread(), load);
  bench.Play(5 * kS);
  const LoadWindow window = bench.Take();
  CHECK_EQ(window.latency.count(), 100u);
  CHECK_EQ(window.records.size(), 100u);
  CHECK_EQ(bench.server->Report().inferences, 100u);
  CHECK(bench.worker->exhausted());
}

TEST(LoadWorker, ServerThatGoesIsCountedAndTriedAgain) {
  auto load = Closed(LoadProtocol::kGrpc, 4, 2);
  LoadBench bench(Spread(), load);
  bench.Play(500 * kMs);
  const uint64_t before = bench.Take().latency.count();
  CHECK(before > 0);
  bench.server.reset();
  bench.Play(3 * kS);
  const LoadWindow window = bench.Take();
  CHECK_EQ(window.errors.count("can not connect to the server: Connection refused"), 1u);
  // 10 ms, 20 ms, 40 ms, ... 1 s: not many attempts in three seconds
  CHECK(window.failed >= 4 && window.failed < 40);
  CHECK_EQ(window.unanswered, 0u);
}

}  // namespace
}  // namespace pyinfer
