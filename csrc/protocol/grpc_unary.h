// SPDX-License-Identifier: Apache-2.0
// grpc_unary.h - ModelInfer: one request in, one answer out.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "infer/completion.h"
#include "memory/message_buffer.h"
#include "protocol/connection.h"
#include "protocol/grpc_call.h"
#include "protocol/grpc_host.h"

namespace pyinfer {

// The way of the request's answer back to its call.
class UnaryInfer final : public CompletionSink, public Delivery, public std::enable_shared_from_this<UnaryInfer> {
 public:
  UnaryInfer(std::shared_ptr<GrpcHost> host, int32_t call, Compression encoding, CompressionLevel level);

  // Decodes and submits the request of `call`, all of which was there at `received`. Loop thread, once.
  void Submit(GrpcCall& call, const ReceivedMessage& message, TimeNs received);
  // Nobody waits any more. Any thread.
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }

  void Send(const Request& request, Response response, bool final) noexcept override;
  bool cancelled() const noexcept override { return cancelled_.load(std::memory_order_relaxed); }
  void Deliver() override;

 private:
  const std::shared_ptr<GrpcHost> host_;
  const int32_t call_;
  const Compression encoding_;
  const CompressionLevel level_;
  std::atomic<bool> cancelled_{false};
  Status status_;
  Output message_;
  std::shared_ptr<Trace> trace_;
};

}  // namespace pyinfer
