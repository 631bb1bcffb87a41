// SPDX-License-Identifier: Apache-2.0
// fake_server.h - a server that infers nothing and whose delays are known, to test what measures servers.
//
// It speaks HTTP/1.1 and gRPC (HTTP/2 without TLS) on one port of loopback. Each inference is answered after the next
// delay of a list; during a stall nothing is answered. Those that are streamed (ModelStreamInfer, generate_stream) have
// several responses. It reads on all the time, so that it knows when a request came.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <queue>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "load/latency_histogram.h"
#include "wire/grpc_prefix.h"

namespace pyinfer {

class FakeConnection;

struct FakeServerOptions {
  // For inferences in the order in which they come, over and over. At least one.
  std::vector<TimeNs> delays = {0};
  // To an inference that is streamed: so many responses, each so long after the one before it. At least one.
  uint32_t responses = 1;
  TimeNs gap = 0;
  // {begin, length}: what is due then is answered when it is over. `begin` is counted from the first inference.
  std::vector<std::pair<TimeNs, TimeNs>> stalls;
  // Each so manieth inference is answered with an error. 0: none.
  uint64_t error_every = 0;
  // Path -> body of what is no inference; answered at once. gRPC messages have their five bytes before them.
  std::map<std::string, std::string, std::less<>> answers;
  std::string grpc_answer = WithGrpcPrefix({});
  std::string http_answer = "{}";
  std::string event = "{}";  // of each response of generate_stream
};

// What it did and knows.
struct FakeServerReport {
  uint64_t inferences = 0;
  uint64_t errors = 0;
  // From when the request had come to when the answer was due, and to when it was written.
  LatencyHistogram injected;
  LatencyHistogram served;
  // Of answers that are streamed: how many responses were written, how long after their request the first of each was,
  // and how long after the one before it each other. `injected` and `served` are those of the last.
  uint64_t responses = 0;
  LatencyHistogram first;
  LatencyHistogram gap;
};

class FakeServer {
 public:
  // Listens on a free port. `clock` outlives this. Throws std::system_error.
  FakeServer(FakeServerOptions options, const Clock& clock);
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  uint16_t port() const { return port_; }
  // Waits at most `most` real nanoseconds, reads what came, writes what is due. One thread, always the same.
  void Turn(TimeNs most);
  // Turns until Stop.
  void Run();
  // --- any thread ---
  void Stop();
  FakeServerReport Report() const;

 private:
  friend class FakeConnection;

  // An inference, or a question that is answered at once, in `stream` of a connection has come whole. `id`: of an
  // inference that shares its stream with others.
  void Arrived(FakeConnection& connection, int32_t stream, std::string_view path, std::string id);
  void Accept();
  void AnswerDue();
  TimeNs DueAt(TimeNs received) const;

  struct Due {
    TimeNs at;
    TimeNs received;
    uint64_t connection;
    int32_t stream;
    bool is_error;
    uint32_t responses;  // that are still to be sent; 0: it is not streamed
    TimeNs written;      // the one before; 0: there is none
    std::string id;
    bool operator<(const Due& other) const { return at > other.at; }
  };

  void Answer(FakeConnection& connection, Due due, TimeNs now);

  const FakeServerOptions options_;
  const Clock& clock_;
  int listener_ = -1;
  int epoll_ = -1;
  uint16_t port_ = 0;
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::unique_ptr<FakeConnection>> connections_;
  std::priority_queue<Due> due_;
  TimeNs now_ = 0;    // when what is being read came
  TimeNs begun_ = 0;  // when the first inference came; 0: not yet
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  FakeServerReport report_;
};

}  // namespace pyinfer
