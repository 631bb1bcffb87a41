// SPDX-License-Identifier: Apache-2.0
// grpc_transport.h - calls of gRPC on one HTTP/2 connection of a client: frames, flow control, status. What a call
// carries is up to the session that derives from it.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "load/session.h"

namespace pyinfer {

class GrpcTransport : public ClientSession {
 public:
  ~GrpcTransport() override;
  GrpcTransport(const GrpcTransport&) = delete;
  GrpcTransport& operator=(const GrpcTransport&) = delete;

  bool Receive(const char* data, size_t size) override;
  bool Send(std::string& out, size_t limit) override;
  bool finished() const override;

 protected:
  struct Call {
    std::string_view body;  // to be sent
    size_t sent = 0;        // of it
    bool goes_on = false;   // more may be sent than `body`
    int http_status = -1;
    int grpc_status = -1;
    int32_t id = -1;
    std::string message;
  };

  // `headers` are those of each call, with the pseudo-headers first; they outlive this. `goes_on`: calls do.
  GrpcTransport(const ClientHeaders& headers, bool goes_on);

  // Another call may be opened.
  bool MayOpen() const;
  // As many as the server takes at a time.
  size_t most_calls() const;
  // Requires: a `call` that is not open, and lives as long as this. What went wrong, nullptr where nothing did.
  const char* Open(Call& call);
  // More of the body of an open call is there than when it was all sent.
  void Resume(const Call& call) { nghttp2_session_resume_data(session_, call.id); }

  // The headers of the answer have come.
  virtual void OnCallBegins(Call& call) = 0;
  virtual void OnCallData(Call& call, std::string_view data) = 0;
  // The last for this call, which may be opened again. Why it failed, empty where it did not.
  virtual void OnCallEnds(Call& call, std::string_view error) = 0;
  // How many calls or requests are under way.
  virtual size_t in_flight() const = 0;

  bool failed_ = false;

 private:
  static int OnHeader(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                      const uint8_t* value, size_t value_size, uint8_t flags, void* user_data);
  static int OnData(nghttp2_session* session, uint8_t flags, int32_t id, const uint8_t* data, size_t size,
                    void* user_data);
  // Of calls that go on: the server may end them.
  static int OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* user_data);
  static int OnClose(nghttp2_session* session, int32_t id, uint32_t error, void* user_data);
  static ssize_t OnSend(nghttp2_session* session, const uint8_t* data, size_t size, int flags, void* user_data);
  static ssize_t ReadBody(nghttp2_session* session, int32_t id, uint8_t* buffer, size_t size, uint32_t* flags,
                          nghttp2_data_source* source, void* user_data);
  static int SendBody(nghttp2_session* session, nghttp2_frame* frame, const uint8_t* frame_header, size_t size,
                      nghttp2_data_source* source, void* user_data);

  void EndCall(Call& call, uint32_t error);

  std::vector<nghttp2_nv> headers_;
  nghttp2_session* session_ = nullptr;
  std::string* out_ = nullptr;  // during Send
  size_t limit_ = 0;
};

}  // namespace pyinfer
