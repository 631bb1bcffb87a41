// SPDX-License-Identifier: Apache-2.0
// grpc_stream.h - ModelStreamInfer: the requests of one call in, their responses out. Loop thread.
//
// Requests may be for any models. Responses of a model that is not decoupled leave in the order of the requests for
// such models; those of a decoupled one as it makes them, in order for each request. An error is a response like
// others, unless the client asked for the first one to end the call.
//
// What one call may hold is bounded: while it is full(), its owner reads no more of it.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_set>
#include <vector>

#include "protocol/grpc_call.h"
#include "protocol/grpc_host.h"

namespace pyinfer {

class InferStream final : public std::enable_shared_from_this<InferStream> {
 public:
  // `call` is what the headers said; it is not kept.
  InferStream(std::shared_ptr<GrpcHost> host, int32_t id, const GrpcCall& call, CompressionLevel level);

  // One request message, its first bytes received at `received`. A request that can not be understood is answered.
  void Receive(const ReceivedMessage& message, TimeNs received);
  // The client has sent everything: the call ends, OK, with its last response.
  void ReceiveEnd();
  // The server stops: the call ends as soon as all requests so far are answered.
  void Drain();
  // The call is gone, whoever ended it: cancels what is being executed. Idempotent.
  void Close();

  // No more is to be received until responses have left; true again only once there is room for several requests.
  bool full() const;
  bool has_room() const;

 private:
  struct Part;
  class Sink;
  using SinkPtr = std::shared_ptr<Sink>;

  void Deliver(Sink& sink, std::vector<Part> parts);
  void DeliverOrdered();
  // False where the call has ended by it.
  bool Emit(Part part);
  void EndIfDone();
  bool Holds(size_t requests, size_t request_bytes, size_t response_bytes) const;

  const std::shared_ptr<GrpcHost> host_;
  const int32_t id_;
  const Compression encoding_;
  const CompressionLevel level_;
  const bool errors_end_;
  const Parameters forwarded_;
  const std::unique_ptr<TraceContext> trace_context_;  // null where the client sent none

  std::deque<SinkPtr> ordered_;            // requests for models that are not decoupled, until their answer has left
  std::unordered_set<SinkPtr> decoupled_;  // the others, until their last response has left
  size_t request_bytes_ = 0;               // of both
  size_t largest_response_ = 0;
  bool ended_ = false;  // by the client
  bool draining_ = false;
  bool closed_ = false;
};

}  // namespace pyinfer
