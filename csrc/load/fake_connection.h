// SPDX-License-Identifier: Apache-2.0
// fake_connection.h - a client of a FakeServer. The first byte tells which protocol it speaks.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "memory/output.h"
#include "wire/http2.h"

namespace pyinfer {

class FakeServer;

class FakeConnection final : public Http2Handler {
 public:
  FakeConnection(FakeServer& server, uint64_t id, int socket) : server_(server), id_(id), socket_(socket) {}
  ~FakeConnection() override;
  FakeConnection(const FakeConnection&) = delete;
  FakeConnection& operator=(const FakeConnection&) = delete;

  uint64_t id() const { return id_; }
  int socket() const { return socket_; }
  bool is_grpc() const { return http2_ != nullptr; }

  // Reads what there is. False where the connection is over.
  bool Read();
  // Answers with a whole body, or with an error. A stream that is gone is ignored.
  void Respond(int32_t stream, std::string_view body);
  void RespondError(int32_t stream, int http_status, int grpc_status, std::string_view message);
  // One response of an answer that is streamed: a ModelStreamInferResponse, or an event with `event`.
  void Stream(int32_t stream, std::string_view id, std::string_view event, bool is_first, bool is_last);
  void StreamError(int32_t stream, std::string_view id, std::string_view message);
  // Writes what can be written. False where the connection is over.
  bool Write();
  bool has_unwritten() const { return written_ != out_.size(); }

 private:
  void OnHeader(int32_t stream, std::string_view name, std::string_view value) override;
  void OnHeadersTooLarge(int32_t) override {}
  void OnHeadersEnd(int32_t) override {}
  size_t OnData(int32_t stream, const uint8_t* data, size_t size) override;
  void OnEnd(int32_t stream) override;
  void OnClose(int32_t stream) override {
    paths_.erase(stream);
    streams_.erase(stream);
  }
  void OnPing() override {}

  // Of ModelStreamInfer, which has many requests.
  struct InferStream {
    std::string in;  // an unfinished message
    bool is_started = false;
  };

  // One message of gRPC to the client.
  void WriteMessage(int32_t stream, const std::string& message);
  // Takes whole requests of HTTP/1.1 out of in_. False for what is none.
  bool ReadHttp();

  FakeServer& server_;
  const uint64_t id_;
  const int socket_;
  std::unique_ptr<Http2Session> http2_;
  std::unordered_map<int32_t, std::string> paths_;  // of open streams
  std::unordered_map<int32_t, InferStream> streams_;
  std::string in_;
  std::string out_;
  size_t written_ = 0;
};

}  // namespace pyinfer
