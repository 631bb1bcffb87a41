// SPDX-License-Identifier: Apache-2.0
// grpc_fixtures.h - a gRPC connection of an identity model, and the client at its other end.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "check.h"
#include "http2_client.h"
#include "infer/validate.h"
#include "proto.h"
#include "protocol/grpc_connection.h"

namespace pyinfer::testing {

inline constexpr const char* kInfer = "/inference.GRPCInferenceService/ModelInfer";
inline constexpr const char* kStreamInfer = "/inference.GRPCInferenceService/ModelStreamInfer";
inline constexpr const char* kLive = "/inference.GRPCInferenceService/ServerLive";

class NoStatistics final : public RequestObserver {
 public:
  void OnResponse(const Request&, const ResponseReport&) noexcept override {}
  void OnAnswer(const Request&, const Response&) noexcept override {}
};

// Room for inputs that tells of what was written behind them. It has none for more than `most` bytes.
class CheckedRoom final : public InputRoom {
 public:
  BufferPtr Allocate(size_t size) override {
    if (size > most) return nullptr;
    inputs.push_back(Buffer::Allocate(size));
    std::fill_n(inputs.back()->data() + size, kBufferPadding, kUntouched);
    return inputs.back();
  }
  void CheckBehind() const {
    for (const BufferPtr& input : inputs) {
      for (size_t i = 0; i < kBufferPadding; ++i) CHECK_EQ(input->data()[input->size() + i], kUntouched);
    }
  }

  std::vector<BufferPtr> inputs;
  size_t most = size_t{1} << 30;

 private:
  static constexpr uint8_t kUntouched = 0xa5;
};

// Knows two models: "m" answers with its input, "d" is decoupled and answers when a test says so. Time stands still
// until it is told.
class IdentityAcceptor final : public RequestAcceptor {
 public:
  TimeNs Now() const override { return now; }
  const SharedMemoryRegistry& shared_memory() const override { return regions; }
  Status Resolve(Request& request) override {
    if (request.model_name != "m" && request.model_name != "d") {
      return Status::NotFound("Request for unknown model: 'é%' is not found");
    }
    request.model = request.model_name == "m" ? m_ : d_;
    return Status();
  }
  void Submit(RequestPtr request) override {
    Status status = Resolve(*request);
    if (status.ok()) status = ValidateRequest(*request);
    if (!status.ok()) return request->Fail(FailureReason::kOther, std::move(status));
    request->observer = statistics_;
    held.push_back(std::move(request));
  }
  void Dispatch() override {
    if (answering) AnswerAll();
  }
  void NoteCancellation() override { ++cancellations; }
  std::shared_ptr<InputRoom> RoomFor(const std::string& model, int64_t version) const override {
    return model == "m" && version == -1 ? room : nullptr;
  }

  void AnswerAll() {
    for (RequestPtr& request : std::exchange(held, {})) {
      Response response;
      response.outputs = request->inputs;
      request->Answer(std::move(response));
    }
  }

  TimeNs now = 1000;
  std::vector<RequestPtr> held;
  bool answering = true;
  int cancellations = 0;
  std::shared_ptr<CheckedRoom> room;  // of "m"

 private:
  SharedMemoryRegistry regions;
  static std::shared_ptr<const ModelSpec> Spec(const std::string& name, bool decoupled) {
    auto spec = std::make_shared<ModelSpec>();
    spec->name = name;
    spec->version_text = "1";
    spec->inputs = spec->outputs = {{"X", DType::kUint8, {-1}, {}, false}};
    spec->decoupled = decoupled;
    return spec;
  }

  const std::shared_ptr<const ModelSpec> m_ = Spec("m", false), d_ = Spec("d", true);
  const std::shared_ptr<RequestObserver> statistics_ = std::make_shared<NoStatistics>();
};

inline std::string InferMessage(std::string_view data, std::string_view model = "m", std::string_view id = "") {
  return Field(1, model) + (id.empty() ? "" : Field(3, id)) +
         InputField("X", "UINT8", {static_cast<int64_t>(data.size())}) + Field(7, data);
}

inline std::string InferAnswer(std::string_view data) {
  return Field(1, "m") + Field(2, "1") +
         Field(5, Field(1, "X") + Field(2, "UINT8") + Field(3, Packed({static_cast<int64_t>(data.size())}))) +
         Field(6, data);
}

inline HeaderList CallHeaders(std::string path, const HeaderList& more = {}) {
  HeaderList headers = {{":method", "POST"},
                        {":scheme", "http"},
                        {":path", std::move(path)},
                        {":authority", "a"},
                        {"content-type", "application/grpc"},
                        {"te", "trailers"}};
  headers.insert(headers.end(), more.begin(), more.end());
  return headers;
}

// Options of a connection that knows one control call, kLive, and is not kept alive.
inline GrpcConnection::Options MakeOptions(uint64_t max_message_size = 1 << 26, uint32_t max_concurrent_streams = 100) {
  GrpcConnection::Options options;
  options.routes.Add(kLive, GrpcRoute::Kind::kControl);
  options.max_message_size = max_message_size;
  options.max_concurrent_streams = max_concurrent_streams;
  options.keepalive.time = 0;
  return options;
}

// Both ends of a connection. Bytes go to and fro in Exchange().
struct GrpcPair {
  explicit GrpcPair(GrpcConnection::Options options = MakeOptions(), int32_t client_window = 65535)
      : client(client_window),
        connection(std::make_shared<GrpcConnection>(
            mailbox, 9, std::make_shared<const GrpcConnection::Options>(std::move(options)))) {}
  // A request that is held keeps the connection, and that the mailbox, and that the engine, and that the request.
  ~GrpcPair() {
    connection->Close();
    mailbox->Close();
    engine->held.clear();
  }
  GrpcPair(const GrpcPair&) = delete;
  GrpcPair& operator=(const GrpcPair&) = delete;

  void Deliver(std::string_view bytes) {
    connection->Receive(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  }

  // One flush; what the server has written.
  std::string Flush() {
    std::string bytes;
    for (Written& written : mailbox->Flush()) {
      CHECK_EQ(written.connection_id, uint64_t{9});
      for (const Slice& piece : written.output.pieces()) bytes += piece.view();
      bytes += written.output.tail();
      closed = closed || written.close;
    }
    most_written = std::max(most_written, bytes.size());
    return bytes;
  }

  // Until neither end has anything to say.
  void Exchange() {
    for (;;) {
      const std::string sent = client.Written();
      if (!sent.empty()) Deliver(sent);
      const std::string received = Flush();
      if (!received.empty()) client.Receive(received);
      if (sent.empty() && received.empty()) return;
    }
  }

  int32_t Call(const std::string& body, const HeaderList& more = {}, const std::string& path = kInfer) {
    return client.Request(CallHeaders(path, more), body);
  }
  int32_t Infer(std::string_view data, const HeaderList& more = {}) { return Call(Framed(InferMessage(data)), more); }

  void CheckAnswered(int32_t stream, std::string_view data) {
    CheckStatus(stream, "0");
    CHECK(client.streams[stream].body == Framed(InferAnswer(data)));
  }
  void CheckStatus(int32_t stream, std::string_view code, std::string_view message = "") {
    Http2Client::Stream& answer = client.streams[stream];
    CHECK(answer.closed);
    CHECK_EQ(answer.headers["grpc-message"], message);
    CHECK_EQ(answer.headers["grpc-status"], code);
    CHECK_EQ(answer.headers[":status"], "200");
    CHECK_EQ(answer.headers["content-type"], "application/grpc");
  }

  std::shared_ptr<IdentityAcceptor> engine = std::make_shared<IdentityAcceptor>();
  std::shared_ptr<Mailbox> mailbox = std::make_shared<Mailbox>(engine);
  Http2Client client;
  std::shared_ptr<GrpcConnection> connection;
  bool closed = false;
  size_t most_written = 0;
};

// Hands `whole` to a new connection, twice, once for each of several bits of each byte that is wrong: it must hold.
inline void DeliverWithEachByteWrong(const std::string& whole) {
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const int flip : {0x01, 0x08, 0x80}) {
      std::string bad = whole;
      bad[at] = static_cast<char>(bad[at] ^ flip);
      GrpcPair pair;
      pair.Deliver(bad);
      pair.Flush();
      pair.Deliver(bad);
      pair.Flush();
    }
  }
}

}  // namespace pyinfer::testing
