// SPDX-License-Identifier: Apache-2.0
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <new>

#include "load/session.h"
#include "wire/http2_memory.h"

namespace pyinfer {
namespace {

constexpr size_t kFrameHeader = 9;
constexpr int32_t kWindow = 16 << 20;
constexpr size_t kLongestMessage = 4096;
constexpr size_t kLargestKept = 64u << 20;

constexpr std::array<std::string_view, 17> kStatusNames = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

int ToInt(std::string_view text) {
  int value = -1;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

int Nibble(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// Of a grpc-message; what is no escape stays.
std::string PercentDecode(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '%' && i + 2 < text.size() && Nibble(text[i + 1]) >= 0 && Nibble(text[i + 2]) >= 0;
    decoded += escape ? static_cast<char>(Nibble(text[i + 1]) * 16 + Nibble(text[i + 2])) : text[i];
    if (escape) i += 2;
  }
  return decoded;
}

class GrpcSession final : public ClientSession {
 public:
  GrpcSession(SessionHandler& handler, const ClientHeaders& headers, uint32_t slots, bool keep_bodies)
      : handler_(handler), keep_bodies_(keep_bodies), calls_(slots) {
    for (uint32_t slot = 0; slot < slots; ++slot) calls_[slot].slot = slot;
    for (const auto& [name, value] : headers) {
      headers_.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                          reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
                          NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE});
    }
    nghttp2_session_callbacks* callbacks = nullptr;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) throw std::bad_alloc();
    nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, OnData);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, OnClose);
    nghttp2_session_callbacks_set_send_callback(callbacks, OnSend);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, SendBody);
    nghttp2_mem memory = RecyclingMemory();
    const int created = nghttp2_session_client_new3(&session_, callbacks, this, nullptr, &memory);
    nghttp2_session_callbacks_del(callbacks);
    if (created != 0) throw std::bad_alloc();
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                               {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindow},
                                               {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 1 << 20}};
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, std::size(settings));
    nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kWindow);
  }
  ~GrpcSession() override { nghttp2_session_del(session_); }
  GrpcSession(const GrpcSession&) = delete;
  GrpcSession& operator=(const GrpcSession&) = delete;

  bool Ready() const override {
    return !failed_ && in_flight_ < calls_.size() &&
           in_flight_ < nghttp2_session_get_remote_settings(session_, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS) &&
           nghttp2_session_check_request_allowed(session_) != 0;
  }

  void Submit(uint32_t slot, std::string_view body) override {
    Call& call = calls_[slot];
    call.Reset(body);
    ++in_flight_;
    nghttp2_data_provider provider{};
    provider.source.ptr = &call;
    provider.read_callback = ReadBody;
    const int32_t id = nghttp2_submit_request(session_, nullptr, headers_.data(), headers_.size(), &provider, &call);
    if (id < 0) End(call, nghttp2_strerror(id));
  }

  bool Receive(const char* data, size_t size) override {
    failed_ = failed_ || nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(data), size) < 0;
    return !failed_;
  }

  bool Send(std::string& out, size_t limit) override {
    out_ = &out;
    limit_ = limit;
    failed_ = failed_ || nghttp2_session_send(session_) != 0;
    out_ = nullptr;
    return !failed_;
  }

  bool finished() const override {
    if (failed_) return true;
    if (in_flight_ == 0 && nghttp2_session_check_request_allowed(session_) == 0) return true;
    return nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0;
  }

  void Fail(std::string_view reason, bool) override {
    failed_ = true;
    for (Call& call : calls_) {
      if (call.open) End(call, reason);
    }
  }

 private:
  struct Call {
    std::string_view body;
    size_t sent = 0;
    uint32_t slot = 0;
    int http_status = -1;
    int grpc_status = -1;
    size_t received = 0;
    bool open = false;
    std::string message;
    std::string kept;

    void Reset(std::string_view sending) {
      body = sending;
      sent = received = 0;
      http_status = grpc_status = -1;
      open = true;
      message.clear();
      kept.clear();
    }
  };

  static GrpcSession& Self(void* user_data) { return *static_cast<GrpcSession*>(user_data); }
  static Call* Find(nghttp2_session* session, int32_t stream) {
    return static_cast<Call*>(nghttp2_session_get_stream_user_data(session, stream));
  }

  static int OnHeader(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                      const uint8_t* value, size_t value_size, uint8_t, void* user_data) {
    Call* call = Find(session, frame->hd.stream_id);
    if (call == nullptr) return 0;
    const std::string_view key(reinterpret_cast<const char*>(name), name_size);
    const std::string_view text(reinterpret_cast<const char*>(value), value_size);
    if (key == ":status") {
      call->http_status = ToInt(text);
      Self(user_data).handler_.OnAnswerBegins(call->slot);
    } else if (key == "grpc-status") {
      call->grpc_status = ToInt(text);
    } else if (key == "grpc-message") {
      call->message.assign(text.substr(0, kLongestMessage));
    }
    return 0;
  }

  static int OnData(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data, size_t size, void* user_data) {
    Call* call = Find(session, id);
    if (call == nullptr) return 0;
    call->received += size;
    if (Self(user_data).keep_bodies_ && call->kept.size() + size <= kLargestKept) {
      call->kept.append(reinterpret_cast<const char*>(data), size);
    }
    return 0;
  }

  static int OnClose(nghttp2_session* session, int32_t id, uint32_t error, void* user_data) {
    Call* call = Find(session, id);
    if (call == nullptr) return 0;
    nghttp2_session_set_stream_user_data(session, id, nullptr);
    GrpcSession& self = Self(user_data);
    if (error != NGHTTP2_NO_ERROR) {
      self.End(*call, std::string("the stream was reset: ") + nghttp2_http2_strerror(error));
    } else if (call->http_status != 200) {
      self.End(*call, "HTTP status " + std::to_string(call->http_status));
    } else if (call->grpc_status == 0) {
      self.End(*call, {});
    } else if (call->grpc_status < 0) {
      self.End(*call, "the answer has no grpc-status");
    } else {
      const auto code = static_cast<size_t>(call->grpc_status);
      const std::string name = code < kStatusNames.size() ? std::string(kStatusNames[code]) : std::to_string(code);
      self.End(*call, name + ": " + PercentDecode(call->message));
    }
    return 0;
  }

  static ssize_t OnSend(nghttp2_session*, const uint8_t* data, size_t size, int, void* user_data) {
    GrpcSession& self = Self(user_data);
    if (self.out_->size() >= self.limit_) return NGHTTP2_ERR_WOULDBLOCK;
    self.out_->append(reinterpret_cast<const char*>(data), size);
    return static_cast<ssize_t>(size);
  }

  static ssize_t ReadBody(nghttp2_session*, int32_t, uint8_t*, size_t size, uint32_t* flags,
                          nghttp2_data_source* source, void*) {
    const Call& call = *static_cast<Call*>(source->ptr);
    const size_t now = std::min(size, call.body.size() - call.sent);
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (call.sent + now == call.body.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(now);
  }

  static int SendBody(nghttp2_session*, nghttp2_frame*, const uint8_t* frame_header, size_t size,
                      nghttp2_data_source* source, void* user_data) {
    GrpcSession& self = Self(user_data);
    if (self.out_->size() >= self.limit_) return NGHTTP2_ERR_WOULDBLOCK;
    Call& call = *static_cast<Call*>(source->ptr);
    self.out_->append(reinterpret_cast<const char*>(frame_header), kFrameHeader);
    self.out_->append(call.body.substr(call.sent, size));
    call.sent += size;
    return 0;
  }

  void End(Call& call, std::string_view error) {
    call.open = false;
    --in_flight_;
    handler_.OnAnswer(call.slot, {error, call.received, call.kept});
  }

  SessionHandler& handler_;
  const bool keep_bodies_;
  std::vector<Call> calls_;
  std::vector<nghttp2_nv> headers_;
  nghttp2_session* session_ = nullptr;
  size_t in_flight_ = 0;
  std::string* out_ = nullptr;  // during Send
  size_t limit_ = 0;
  bool failed_ = false;
};

}  // namespace

std::unique_ptr<ClientSession> MakeGrpcSession(SessionHandler& handler, const ClientHeaders& headers, uint32_t slots,
                                               bool keep_bodies) {
  return std::make_unique<GrpcSession>(handler, headers, slots, keep_bodies);
}

}  // namespace pyinfer
