// SPDX-License-Identifier: Apache-2.0
// http2_client.h - the client's side of an HTTP/2 connection without a socket: what it would write, and what it has
// received.
#pragma once

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "check.h"

namespace pyinfer::testing {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

class Http2Client {
 public:
  struct Stream {
    std::map<std::string, std::string> headers;  // and trailers
    std::string body;
    std::string unsent;  // from `sent` on
    size_t sent = 0;
    size_t left() const { return unsent.size() - sent; }
    bool keep_open = false;
    bool closed = false;
    uint32_t error = 0;
  };

  explicit Http2Client(int32_t stream_window = 65535) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, OnData);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, OnClose);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, OnFrame);
    nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, FrameLength);
    nghttp2_option* option = nullptr;
    nghttp2_option_new(&option);
    nghttp2_option_set_no_auto_window_update(option, stream_window == 65535 ? 0 : 1);
    nghttp2_session_client_new2(&session_, callbacks, this, option);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, static_cast<uint32_t>(stream_window)}};
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, 1);
  }
  ~Http2Client() { nghttp2_session_del(session_); }
  Http2Client(const Http2Client&) = delete;
  Http2Client& operator=(const Http2Client&) = delete;

  // Starts a request; its stream. With `keep_open` the client does not say that it has sent everything.
  int32_t Request(const HeaderList& headers, std::string body, bool keep_open = false) {
    std::vector<nghttp2_nv> nv;
    for (const auto& [name, value] : headers) {
      nv.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                    reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
                    NGHTTP2_NV_FLAG_NONE});
    }
    nghttp2_data_provider provider{};
    provider.read_callback = ReadBody;
    const bool with_body = !body.empty() || keep_open;
    const int32_t id =
        nghttp2_submit_request(session_, nullptr, nv.data(), nv.size(), with_body ? &provider : nullptr, nullptr);
    CHECK(id > 0);
    streams[id].unsent = std::move(body);
    streams[id].keep_open = keep_open;
    return id;
  }

  // More of the body of a request that was kept open; and its end.
  void SendMore(int32_t stream, std::string_view body) {
    streams[stream].unsent += body;
    nghttp2_session_resume_data(session_, stream);
  }
  void FinishSending(int32_t stream) {
    streams[stream].keep_open = false;
    nghttp2_session_resume_data(session_, stream);
  }
  void Reset(int32_t stream, uint32_t code = NGHTTP2_CANCEL) {
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream, code);
  }
  void Ping() { nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr); }
  // Lets the server send `size` bytes more, on the stream and on the connection.
  void Allow(int32_t stream, size_t size) { nghttp2_session_consume(session_, stream, size); }

  // Lets the server send so much on the connection as a whole.
  void AllowOnConnection(int32_t size) { nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, size); }

  // What the client would write to its socket now.
  std::string Written() {
    std::string written;
    for (;;) {
      const uint8_t* data = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session_, &data);
      CHECK(size >= 0);
      if (size == 0) return written;
      written.append(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
    }
  }

  void Receive(std::string_view data) {
    CHECK_EQ(nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(data.data()), data.size()),
             static_cast<ssize_t>(data.size()));
  }

  std::map<int32_t, Stream> streams;
  uint32_t largest_frame = 16384;  // of data, where the server takes such
  bool goaway = false;
  uint32_t goaway_code = 0;
  int32_t goaway_last = 0;
  std::string goaway_reason;
  size_t resets = 0;
  size_t pings = 0;  // of the server

 private:
  static Http2Client& Self(void* user_data) { return *static_cast<Http2Client*>(user_data); }

  static ssize_t FrameLength(nghttp2_session*, uint8_t, int32_t, int32_t session_window, int32_t stream_window,
                             uint32_t max_frame_size, void* user_data) {
    const uint32_t most = std::min(max_frame_size, Self(user_data).largest_frame);
    return std::min({session_window, stream_window, static_cast<int32_t>(most)});
  }

  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                      const uint8_t* value, size_t value_size, uint8_t, void* user_data) {
    Self(user_data).streams[frame->hd.stream_id].headers[{reinterpret_cast<const char*>(name), name_size}] = {
        reinterpret_cast<const char*>(value), value_size};
    return 0;
  }
  static int OnData(nghttp2_session*, uint8_t, int32_t stream, const uint8_t* data, size_t size, void* user_data) {
    Self(user_data).streams[stream].body.append(reinterpret_cast<const char*>(data), size);
    return 0;
  }
  static int OnClose(nghttp2_session*, int32_t stream, uint32_t error, void* user_data) {
    Self(user_data).streams[stream].closed = true;
    Self(user_data).streams[stream].error = error;
    return 0;
  }
  static int OnFrame(nghttp2_session*, const nghttp2_frame* frame, void* user_data) {
    Http2Client& self = Self(user_data);
    if (frame->hd.type == NGHTTP2_RST_STREAM) ++self.resets;
    if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) ++self.pings;
    if (frame->hd.type == NGHTTP2_GOAWAY && !self.goaway) {
      self.goaway = true;
      self.goaway_code = frame->goaway.error_code;
      self.goaway_last = frame->goaway.last_stream_id;
      self.goaway_reason.assign(reinterpret_cast<const char*>(frame->goaway.opaque_data),
                                frame->goaway.opaque_data_len);
    }
    return 0;
  }
  static ssize_t ReadBody(nghttp2_session*, int32_t id, uint8_t* buffer, size_t size, uint32_t* flags,
                          nghttp2_data_source*, void* user_data) {
    Stream& stream = Self(user_data).streams[id];
    const size_t now = stream.unsent.copy(reinterpret_cast<char*>(buffer), size, stream.sent);
    stream.sent += now;
    if (stream.sent * 2 >= stream.unsent.size()) stream.unsent.erase(0, std::exchange(stream.sent, 0));
    if (now == 0 && stream.keep_open) return NGHTTP2_ERR_DEFERRED;
    if (stream.left() == 0 && !stream.keep_open) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(now);
  }

  nghttp2_session* session_ = nullptr;
};

}  // namespace pyinfer::testing
