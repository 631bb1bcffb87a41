// SPDX-License-Identifier: Apache-2.0
// grpc_connection.h - gRPC over one HTTP/2 connection: calls in, answers out. Loop thread.
//
// Calls of inference are decoded, submitted and answered here (grpc_unary.h, grpc_stream.h). Others whose path is known
// are handed out by TakeEvents; whoever takes them answers.
//
// Source: "gRPC over HTTP2" protocol description; statuses for malformed calls are those of its reference
// implementations.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "memory/recycler.h"
#include "protocol/connection.h"
#include "protocol/grpc_call.h"
#include "protocol/grpc_host.h"
#include "protocol/grpc_keepalive.h"
#include "protocol/raw_input_search.h"
#include "wire/http2.h"

namespace pyinfer {

class InferStream;
class UnaryInfer;

class GrpcConnection final : public Connection, private Http2Handler, private GrpcHost {
 public:
  struct Options : GrpcCallOptions {
    uint64_t max_message_size = 0x7fffffff;
    uint32_t max_concurrent_streams = 1024;
    // For which a message that has begun, or that of a unary call, may stand still; 0: for ever.
    TimeNs message_timeout = 30 * KeepaliveOptions::kSecond;
    // Of answers that clients leave unread, over all connections of the mailbox: what one may leave shrinks as this is
    // used up, so that readers that stop do not take the memory of a server.
    size_t max_unread_of_all = size_t{1} << 30;
    KeepaliveOptions keepalive;
  };

  // What has happened to a control call. One that does not stream has one kMessage and nothing else; one that streams
  // gets its next message after the last one was answered, kEnd when the client has sent all, kGone when it is over
  // and its server has not ended it.
  struct ControlEvent {
    enum class Kind { kMessage, kEnd, kGone };
    Kind kind;
    int32_t call;
    std::string path;
    Slice message;
  };

  // `options` is shared by the connections of a listener.
  GrpcConnection(std::shared_ptr<Mailbox> mailbox, uint64_t id, std::shared_ptr<const Options> options);
  ~GrpcConnection() override;

  // Bytes of the client. Marks the connection ready where something is to be written.
  void Receive(const uint8_t* data, size_t size);
  // Where the next bytes are best read to: into the message that they belong to, where they need not be copied again.
  // Without data: anywhere, `size` of them at most where that is not 0. Valid until Receive is called.
  const Space& target() const { return target_; }

  bool has_events() const override { return !events_.empty(); }
  std::vector<ControlEvent> TakeEvents();
  // Answer a control call: a message, and the end. A call that is gone is ignored.
  void Send(int32_t call, std::string_view message);
  void Finish(int32_t call, const Status& status) { End(call, status); }

  // Calls not yet answered.
  size_t in_flight() const;
  // Bytes of answers that the client does not take.
  size_t unsent() const { return session_.unsent(); }
  // Opens no new calls, ends those that stream; closes once those open are answered.
  void Drain();
  // The connection is lost: its requests are cancelled, its answers dropped.
  void Close();

  bool TakeOutput(Output& output) override;
  void Pause() override { paused_ = true; }
  void Resume() override;

 private:
  struct Call : GrpcCall {
    bool asked = false;  // control: a message was handed out and is not answered
    std::optional<Mailbox::Timer> deadline;
    std::optional<Mailbox::Timer> stall;  // runs while a message is awaited that did not come in one read
    uint64_t taken = 0;                   // bytes of messages
    uint64_t taken_before = 0;            // the same, when `stall` was set
    std::shared_ptr<UnaryInfer> infer;
    std::shared_ptr<InferStream> stream;
    std::shared_ptr<pyinfer::Trace> trace;   // of the answer that is being sent
    std::unique_ptr<RawInputSearch> search;  // of a large message that is being received

    bool streams() const { return route != nullptr && route->streams(); }
    // The client has to send more, or to end, before anything can be done.
    bool awaited() const { return !answered && !ended && (!streams() || !reader.empty()); }
  };

  void OnHeader(int32_t stream, std::string_view name, std::string_view value) override;
  void OnHeadersTooLarge(int32_t stream) override;
  void OnHeadersEnd(int32_t stream) override;
  size_t OnData(int32_t stream, const uint8_t* data, size_t size) override;
  void OnEnd(int32_t stream) override;
  void OnClose(int32_t stream) override;
  void OnPing() override;

  Mailbox& mailbox() override { return *mailbox_; }
  void Trace(int32_t stream, std::shared_ptr<pyinfer::Trace> trace) override;
  void SendMessage(int32_t stream, Output message) override;
  void End(int32_t stream, const Status& status) override;
  void Break(int32_t stream, const Status& status) override;
  size_t unsent(int32_t stream) const override { return session_.unsent(stream); }
  size_t MayLeave(size_t most) const override;

  std::shared_ptr<GrpcHost> AsHost();
  Space NextTarget();
  Call* FindOpen(int32_t stream);
  Status CheckLoad(const Call& call) const;
  Status StartDeadline(int32_t stream, Call& call);
  // Messages out of the bytes of a call; returns how many bytes were used. The others are held.
  size_t Read(int32_t stream, Call& call, const uint8_t* data, size_t size);
  // Has the large tensors of the message that is being received go where its model reads them.
  void PlaceInputs(Call& call);
  bool Full(int32_t stream, const Call& call) const;
  bool HasRoom(int32_t stream, const Call& call) const;
  void ReadOn();
  // Brings the mailbox's sum up to date.
  void CountUnsent();
  void OnMessage(int32_t stream, Call& call);
  void OnAllRead(int32_t stream, Call& call);
  // Ends an open call that its client is too late for.
  void GiveUp(int32_t stream, const Status& status);
  void RemoveTimer(std::optional<Mailbox::Timer>& timer);
  void WatchForStall(int32_t stream, Call& call);
  void CheckProgress(int32_t stream);
  static bool Cancel(Call& call);
  void Forget(int32_t stream, Call& call);
  void KeepAlive();
  void SetKeepaliveTimer();

  const std::shared_ptr<Mailbox> mailbox_;
  const std::shared_ptr<const Options> options_;
  RecyclingMap<int32_t, Call> calls_;
  std::vector<ControlEvent> events_;
  std::vector<int32_t> held_up_;  // calls of which no more is read for now
  std::vector<int32_t> begun_;    // calls that may await more than this read has brought
  Keepalive keepalive_;
  std::optional<Mailbox::Timer> keepalive_timer_;
  TimeNs last_sent_ = 0;
  uint64_t reads_ = 0;
  Space target_;
  size_t counted_ = 0;  // of the mailbox's sum
  bool paused_ = false;
  bool draining_ = false;
  bool given_up_ = false;
  bool closed_ = false;
  Http2Session session_;
};

}  // namespace pyinfer
