// SPDX-License-Identifier: Apache-2.0
// load_bench.h - a load and a server with known delays, over real sockets, on one clock that the test moves.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "load/fake_server.h"
#include "load/worker.h"

namespace pyinfer {

inline constexpr TimeNs kUs = 1000, kMs = 1000 * kUs, kS = 1000 * kMs;
inline constexpr TimeNs kStep = 100 * kUs;

struct LoadBench {
  LoadBench(FakeServerOptions fake, LoadOptions load)
      : options(std::move(load)), server(std::make_unique<FakeServer>(std::move(fake), clock)) {
    options.address = "127.0.0.1";
    options.port = server->port();
    if (options.protocol != LoadProtocol::kHttp) {
      const char* const method = options.protocol == LoadProtocol::kGrpc ? "ModelInfer" : "ModelStreamInfer";
      options.headers = {{":method", "POST"},
                         {":scheme", "http"},
                         {":path", std::string("/inference.GRPCInferenceService/") + method},
                         {":authority", "fake"},
                         {"te", "trailers"},
                         {"content-type", "application/grpc"}};
      options.bodies = {std::string(5, '\0')};
    } else {
      const std::string method = options.streamed ? "generate_stream" : "infer";
      options.bodies = {"POST /v2/models/m/" + method + " HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"};
    }
    budget = static_cast<int64_t>(options.max_requests);
    worker = std::make_unique<LoadWorker>(options, 0, clock.Now() + 50 * kMs, budget, clock);
    Play(50 * kMs);  // connect
  }

  void Play(TimeNs time) {
    for (TimeNs passed = 0; passed < time; passed += kStep) {
      clock.Advance(kStep);
      if (server) server->Turn(0);
      worker->Turn(0);
      if (server) server->Turn(0);
    }
  }

  LoadWindow Take() {
    LoadWindow window;
    worker->TakeInto(window, clock.Now());
    return window;
  }

  ManualClock clock{kS};
  LoadOptions options;
  std::unique_ptr<FakeServer> server;
  std::atomic<int64_t> budget{0};
  std::unique_ptr<LoadWorker> worker;
};

}  // namespace pyinfer
