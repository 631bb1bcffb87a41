// SPDX-License-Identifier: Apache-2.0
#include "load/grpc_transport.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <new>

#include "wire/http2_memory.h"

namespace pyinfer {
namespace {

constexpr size_t kFrameHeader = 9;
constexpr int32_t kWindow = 16 << 20;
constexpr size_t kLongestMessage = 4096;

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

std::string StatusText(int status, const std::string& message) {
  const auto code = static_cast<size_t>(status);
  const std::string name = code < kStatusNames.size() ? std::string(kStatusNames[code]) : std::to_string(code);
  return name + ": " + PercentDecode(message);
}

GrpcTransport* Self(void* user_data) { return static_cast<GrpcTransport*>(user_data); }

// Frames as large as the server takes, as gRPC's own clients send them.
ssize_t FrameLength(nghttp2_session*, uint8_t, int32_t, int32_t session_window, int32_t stream_window,
                    uint32_t max_frame_size, void*) {
  return std::min({session_window, stream_window, static_cast<int32_t>(std::min(max_frame_size, 1u << 20))});
}

}  // namespace

GrpcTransport::GrpcTransport(const ClientHeaders& headers, bool goes_on) {
  for (const auto& [name, value] : headers) {
    headers_.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                        reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
                        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE});
  }
  nghttp2_session_callbacks* callbacks = nullptr;
  if (nghttp2_session_callbacks_new(&callbacks) != 0) throw std::bad_alloc();
  nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, OnData);
  if (goes_on) nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, OnFrame);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, OnClose);
  nghttp2_session_callbacks_set_send_callback(callbacks, OnSend);
  nghttp2_session_callbacks_set_send_data_callback(callbacks, SendBody);
  nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, FrameLength);
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

GrpcTransport::~GrpcTransport() { nghttp2_session_del(session_); }

bool GrpcTransport::MayOpen() const { return !failed_ && nghttp2_session_check_request_allowed(session_) != 0; }

size_t GrpcTransport::most_calls() const {
  return nghttp2_session_get_remote_settings(session_, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

const char* GrpcTransport::Open(Call& call) {
  nghttp2_data_provider provider{};
  provider.source.ptr = &call;
  provider.read_callback = ReadBody;
  call.http_status = call.grpc_status = -1;
  call.message.clear();
  call.id = nghttp2_submit_request(session_, nullptr, headers_.data(), headers_.size(), &provider, &call);
  return call.id < 0 ? nghttp2_strerror(call.id) : nullptr;
}

bool GrpcTransport::Receive(const char* data, size_t size) {
  if (failed_) return false;
  // What it calls may fail, too.
  if (nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(data), size) < 0) failed_ = true;
  return !failed_;
}

bool GrpcTransport::Send(std::string& out, size_t limit) {
  out_ = &out;
  limit_ = limit;
  failed_ = failed_ || nghttp2_session_send(session_) != 0;
  out_ = nullptr;
  return !failed_;
}

bool GrpcTransport::finished() const {
  if (failed_) return true;
  if (in_flight() == 0 && nghttp2_session_check_request_allowed(session_) == 0) return true;
  return nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0;
}

int GrpcTransport::OnHeader(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                            const uint8_t* value, size_t value_size, uint8_t, void* user_data) {
  auto* const call = static_cast<Call*>(nghttp2_session_get_stream_user_data(session, frame->hd.stream_id));
  if (call == nullptr) return 0;
  const std::string_view key(reinterpret_cast<const char*>(name), name_size);
  const std::string_view text(reinterpret_cast<const char*>(value), value_size);
  if (key == ":status") {
    call->http_status = ToInt(text);
    Self(user_data)->OnCallBegins(*call);
  } else if (key == "grpc-status") {
    call->grpc_status = ToInt(text);
  } else if (key == "grpc-message") {
    call->message.assign(text.substr(0, kLongestMessage));
  }
  return 0;
}

int GrpcTransport::OnData(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data, size_t size,
                          void* user_data) {
  auto* const call = static_cast<Call*>(nghttp2_session_get_stream_user_data(session, id));
  if (call != nullptr) Self(user_data)->OnCallData(*call, {reinterpret_cast<const char*>(data), size});
  return 0;
}

int GrpcTransport::OnClose(nghttp2_session* session, int32_t id, uint32_t error, void* user_data) {
  auto* const call = static_cast<Call*>(nghttp2_session_get_stream_user_data(session, id));
  if (call == nullptr) return 0;
  nghttp2_session_set_stream_user_data(session, id, nullptr);
  Self(user_data)->EndCall(*call, error);
  return 0;
}

int GrpcTransport::OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* user_data) {
  const int32_t id = frame->hd.stream_id;
  if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
      (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
    return 0;
  }
  auto* const call = static_cast<Call*>(nghttp2_session_get_stream_user_data(session, id));
  if (call == nullptr) return 0;
  // The stream would stay half open: this side has not ended.
  nghttp2_session_set_stream_user_data(session, id, nullptr);
  nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_NO_ERROR);
  Self(user_data)->EndCall(*call, NGHTTP2_NO_ERROR);
  return 0;
}

void GrpcTransport::EndCall(Call& call, uint32_t error) {
  if (error != NGHTTP2_NO_ERROR) {
    OnCallEnds(call, std::string("the stream was reset: ") + nghttp2_http2_strerror(error));
  } else if (call.http_status != 200) {
    OnCallEnds(call, "HTTP status " + std::to_string(call.http_status));
  } else if (call.grpc_status == 0) {
    OnCallEnds(call, {});
  } else if (call.grpc_status < 0) {
    OnCallEnds(call, "the answer has no grpc-status");
  } else {
    OnCallEnds(call, StatusText(call.grpc_status, call.message));
  }
}

ssize_t GrpcTransport::OnSend(nghttp2_session*, const uint8_t* data, size_t size, int, void* user_data) {
  GrpcTransport& self = *Self(user_data);
  if (self.out_->size() >= self.limit_) return NGHTTP2_ERR_WOULDBLOCK;
  self.out_->append(reinterpret_cast<const char*>(data), size);
  return static_cast<ssize_t>(size);
}

ssize_t GrpcTransport::ReadBody(nghttp2_session*, int32_t id, uint8_t*, size_t size, uint32_t* flags,
                                nghttp2_data_source* source, void*) {
  const Call& call = *static_cast<Call*>(source->ptr);
  const size_t now = std::min(size, call.body.size() - call.sent);
  // A stream that is being reset, and whose call has another already, sends nothing more.
  if (call.goes_on && (now == 0 || id != call.id)) return NGHTTP2_ERR_DEFERRED;
  *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  if (call.sent + now == call.body.size() && !call.goes_on) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(now);
}

int GrpcTransport::SendBody(nghttp2_session*, nghttp2_frame* frame, const uint8_t* frame_header, size_t size,
                            nghttp2_data_source* source, void* user_data) {
  GrpcTransport& self = *Self(user_data);
  if (self.out_->size() >= self.limit_) return NGHTTP2_ERR_WOULDBLOCK;
  Call& call = *static_cast<Call*>(source->ptr);
  self.out_->append(reinterpret_cast<const char*>(frame_header), kFrameHeader);
  if (frame->hd.stream_id != call.id || call.body.size() - call.sent < size) {
    // What had begun of a stream that is being reset: nobody reads it.
    self.out_->append(size, '\0');
    return 0;
  }
  self.out_->append(call.body.substr(call.sent, size));
  call.sent += size;
  return 0;
}

}  // namespace pyinfer
