// SPDX-License-Identifier: Apache-2.0
// grpc_connection.h - gRPC over one HTTP/2 connection: unary calls in, answers out.
//
// ModelInfer is decoded, submitted and answered here. Other unary calls whose path is known are collected and handed
// out by TakeCalls; whoever takes them answers by Respond or Fail. Loop thread.
//
// Source: "gRPC over HTTP2" protocol description; statuses for malformed calls are those of its reference
// implementations.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "protocol/connection.h"
#include "wire/http2.h"

namespace pyinfer {

class GrpcConnection final : public Connection, private Http2Handler {
 public:
  struct Options {
    std::unordered_set<std::string> paths;  // of the calls that TakeCalls hands out
    uint64_t max_message_size = 0x7fffffff;
    uint32_t max_concurrent_streams = 1024;
  };

  struct ControlCall {
    int32_t call;
    std::string path;
    Slice message;
  };

  // `options` is shared by the connections of a listener.
  GrpcConnection(std::shared_ptr<Mailbox> mailbox, uint64_t id, std::shared_ptr<const Options> options);
  ~GrpcConnection() override;

  // Bytes of the client. Marks the connection ready where something is to be written.
  void Receive(const uint8_t* data, size_t size);

  bool has_calls() const { return !control_calls_.empty(); }
  std::vector<ControlCall> TakeCalls();
  // Answer a control call; one that is gone is ignored.
  void Respond(int32_t call, std::string_view message);
  void Fail(int32_t call, const Status& status);

  // Calls not yet answered.
  size_t in_flight() const;
  // Bytes of answers that the client does not take.
  size_t unsent() const { return session_.unsent(); }
  // Opens no new calls; closes once those open are answered.
  void Drain();
  // The connection is lost: its requests are cancelled, its answers dropped.
  void Close();

  bool TakeOutput(Output& output) override;
  void Pause() override { paused_ = true; }
  void Resume() override;

 private:
  class InferCall;
  struct Call;

  void OnHeader(int32_t stream, std::string_view name, std::string_view value) override;
  void OnHeadersTooLarge(int32_t stream) override;
  void OnHeadersEnd(int32_t stream) override;
  void OnData(int32_t stream, const uint8_t* data, size_t size) override;
  void OnEnd(int32_t stream) override;
  void OnClose(int32_t stream) override;

  Call* FindOpen(int32_t stream);
  Status CheckHeaders(const Call& call) const;
  Status StartDeadline(int32_t stream, Call& call);
  StatusOr<Slice> FinishMessage(Call& call) const;
  void Infer(int32_t stream, Call& call, Slice message);
  void Deliver(int32_t stream, Output message);
  void SendMessage(int32_t stream, Call& call, Output message);
  // Answers with a status and no message.
  void SendStatus(int32_t stream, Call& call, const Status& status);
  void Expire(int32_t stream);
  void Forget(Call& call);

  const std::shared_ptr<Mailbox> mailbox_;
  const std::shared_ptr<const Options> options_;
  std::unordered_map<int32_t, Call> calls_;
  std::vector<ControlCall> control_calls_;
  // Requests whose sinks have not been answered, those of reset calls too: a client can not buy work by resetting.
  std::atomic<size_t> outstanding_{0};
  TimeNs last_sent_ = 0;
  uint64_t reads_ = 0;
  bool paused_ = false;
  bool draining_ = false;
  bool closed_ = false;
  Http2Session session_;
};

}  // namespace pyinfer
