// SPDX-License-Identifier: Apache-2.0
// grpc_call.h - one call: what its headers say, and how far its messages have come. No HTTP/2, no inference.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "infer/parameters.h"
#include "infer/trace.h"
#include "protocol/grpc_messages.h"
#include "protocol/header_forwarding.h"

namespace pyinfer {

// What is known of the method that a path names.
struct GrpcRoute {
  enum class Kind {
    kInfer,          // ModelInfer
    kStreamInfer,    // ModelStreamInfer
    kControl,        // one request, one answer, by who takes the control calls
    kControlStream,  // any number of either
  };

  Kind kind = Kind::kControl;
  // A header that calls must have, and its value; an empty name where anybody may call.
  std::string key_header;
  std::string key_value;

  bool streams() const { return kind == Kind::kStreamInfer || kind == Kind::kControlStream; }
  bool infers() const { return kind == Kind::kInfer || kind == Kind::kStreamInfer; }
};

class GrpcRoutes {
 public:
  // Knows the two methods of inference from the start.
  GrpcRoutes();
  void Add(std::string path, GrpcRoute::Kind kind);
  // Only calls with the header "triton-grpc-protocol-<key>: <value>" are served. Requires: the path is known.
  void Restrict(std::string_view path, const std::string& key, std::string value);
  // nullptr for an unknown path.
  const GrpcRoute* Find(std::string_view path) const;

 private:
  GrpcRoute infer_;  // apart, because most calls go there
  std::map<std::string, GrpcRoute, std::less<>> others_;
};

// Received bytes that are not looked at yet.
class HeldBytes {
 public:
  void Append(const uint8_t* data, size_t size) { bytes_.insert(bytes_.end(), data, data + size); }
  void Drop(size_t size);
  const uint8_t* data() const { return bytes_.data() + begin_; }
  size_t size() const { return bytes_.size() - begin_; }

 private:
  std::vector<uint8_t> bytes_;
  size_t begin_ = 0;
};

struct GrpcCallOptions {
  GrpcRoutes routes;
  CompressionLevel compression_level = CompressionLevel::kNone;  // of inference responses
  std::shared_ptr<HeaderForwarding> forwarding;                  // null: no header becomes a parameter
};

struct GrpcCall {
  // One header of the call. The pseudo-headers come first.
  void AddHeader(std::string_view name, std::string_view value, const GrpcCallOptions& options);
  // Why the call can not be served, once all its headers are known. Requires: post and grpc.
  Status CheckHeaders() const;

  // What the headers say.
  const GrpcRoute* route = nullptr;  // null where the path is unknown
  bool post = false;
  bool grpc = false;        // the content type
  bool has_key = false;     // the key header of the route, with the right value
  bool errors_end = false;  // the first error is to end the stream
  bool has_timeout = false;
  Compression encoding = Compression::kIdentity;         // of the client's messages
  Compression answer_encoding = Compression::kIdentity;  // of ours
  std::string path;                                      // unless it is ModelInfer's
  std::string unknown_encoding;
  std::string timeout;
  Parameters forwarded;
  Status forwarding_status;
  std::unique_ptr<TraceContext> trace_context;  // null where the client sent none

  // Its messages.
  TimeNs received = 0;
  uint64_t read = 0;  // the number of the read that brought the headers
  MessageReader reader;
  HeldBytes held;
  bool ended = false;     // the client has sent everything
  bool paused = false;    // what comes is held
  bool started = false;   // our headers were sent
  bool answered = false;  // all of our answer was given to HTTP/2

 private:
  TraceContext& context();
  void AddTransportHeader(std::string_view name, std::string_view value, const GrpcCallOptions& options);
};

}  // namespace pyinfer
