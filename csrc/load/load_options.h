// SPDX-License-Identifier: Apache-2.0
// load_options.h - what a load sends, where, and when.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "load/chat_set.h"
#include "load/expected.h"
#include "load/pacer.h"
#include "load/ramp.h"
#include "load/sequence_set.h"
#include "load/session.h"
#include "load/tls_client.h"

namespace pyinfer {

enum class LoadProtocol { kGrpc, kGrpcStream, kHttp };

struct LoadOptions {
  LoadProtocol protocol = LoadProtocol::kGrpc;
  std::string address;  // of the server, in digits
  uint16_t port = 0;
  // Where connections are inside TLS; otherwise nullptr.
  std::shared_ptr<const TlsClient> tls;
  // Sent one after the other, over and over; complete, as ClientSession takes them. At least one.
  std::vector<std::string> bodies;
  // Of each gRPC call, pseudo-headers first.
  ClientHeaders headers;
  // Of answers over HTTP that are streams.
  EventGrammar events = EventGrammar::kGenerate;
  uint32_t threads = 1;
  // At least one for each thread; for a closed loop at most as many as `concurrency`.
  uint32_t connections = 1;
  // Requests that a gRPC connection carries at most at a time in an open loop.
  uint32_t streams = 256;
  // Requests in flight: a closed loop. 0: an open loop that follows `schedule`.
  uint32_t concurrency = 0;
  std::shared_ptr<const Schedule> schedule;
  // Where the concurrency grows, on one thread; `concurrency` is what it ends with.
  RampPlan ramp;
  // Requests that are sent in all; 0: no limit. Those that only end a sequence when the load ends are none of them.
  uint64_t max_requests = 0;
  // Where requests are steps of sequences. In a closed loop `concurrency` of these are live.
  SequencePlan sequences;
  // Where requests are turns of chats, over HTTP in a closed loop of as many connections: each chat is held once, and
  // the load ends with the last.
  std::vector<Chat> chats;
  // Of each body, what it is to be answered with; empty where no answer is looked at.
  std::vector<ExpectedOutputs> expected;
  bool record = false;    // each request, in LoadWindow::records
  bool streamed = false;  // answers are streams: their responses are recorded, too
};

}  // namespace pyinfer
