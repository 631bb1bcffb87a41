// SPDX-License-Identifier: Apache-2.0
#include "wire/http2.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <iterator>
#include <new>

#include "wire/http2_memory.h"
#include "wire/send_queue.h"

namespace pyinfer {
namespace {

constexpr size_t kMaxFrameHeader = 9;
// Gaps between streams that are remembered, the latest ones. Clients leave none.
constexpr size_t kMaxLeftOut = 64;

int64_t MonotonicNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Names and values as the library takes them; it copies what they point to. A few lie in place.
class NameValues {
 public:
  template <typename Pairs>
  explicit NameValues(const Pairs& headers) : size_(headers.size()) {
    if (size_ > few_.size()) many_.resize(size_);
    nghttp2_nv* next = data();
    for (const auto& [name, value] : headers) {
      *next++ = {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                 reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
                 NGHTTP2_NV_FLAG_NONE};
    }
  }
  nghttp2_nv* data() { return many_.empty() ? few_.data() : many_.data(); }
  size_t size() const { return size_; }

 private:
  size_t size_;
  std::array<nghttp2_nv, 4> few_;
  std::vector<nghttp2_nv> many_;
};

}  // namespace

// What we keep of a stream beside what the library keeps: the size of its request headers, its answer and how far it is
// sent.
struct Http2Session::Stream {
  size_t header_bytes = 0;
  bool headers_too_large = false;
  bool stop_receiving = false;  // once the answer is sent
  bool ended = false;           // no parts will follow, but the trailers
  bool trailed = false;         // those were submitted
  bool waiting = false;         // the library was told that there is nothing to send
  size_t promised = 0;          // bytes that the library was told it can send
  size_t kept = 0;              // bytes that OnData has kept
  SendQueue body;
  std::vector<std::pair<std::string, std::string>> trailers;
};

// The library's callbacks. `user_data` is the session. None may throw through the library.
struct Http2Session::Callbacks {
  static Http2Session& Self(void* user_data) { return *static_cast<Http2Session*>(user_data); }
  static Stream* Find(nghttp2_session* session, int32_t stream) {
    return static_cast<Stream*>(nghttp2_session_get_stream_user_data(session, stream));
  }

  // The library takes HEADERS of a stream that it does not know, and that is no new one, for trailers that crossed a
  // reset, and ignores them.
  static int OnBeginFrame(nghttp2_session* session, const nghttp2_frame_hd* head, void* user_data) {
    if (head->type == NGHTTP2_HEADERS && Self(user_data).WasLeftOut(head->stream_id)) {
      nghttp2_session_terminate_session(session, NGHTTP2_PROTOCOL_ERROR);
    }
    Http2Session& self = Self(user_data);
    self.data_stream_ = head->stream_id;
    self.data_next_ = head->type == NGHTTP2_DATA && (head->flags & NGHTTP2_FLAG_PADDED) == 0 ? head->length : 0;
    return 0;
  }

  static int OnBeginHeaders(nghttp2_session* session, const nghttp2_frame* frame, void* user_data) {
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    // The nodes of the map do not move.
    Stream& stream = Self(user_data).streams_[frame->hd.stream_id];
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, &stream);
    return 0;
  }

  static int OnHeader(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                      const uint8_t* value, size_t value_size, uint8_t, void* user_data) {
    Http2Session& self = Self(user_data);
    const int32_t stream = frame->hd.stream_id;
    Stream* state = Find(session, stream);
    // Trailers of a client mean nothing to us.
    if (state == nullptr || frame->headers.cat != NGHTTP2_HCAT_REQUEST || state->headers_too_large) return 0;
    state->header_bytes += name_size + value_size + 32;
    if (state->header_bytes > self.options_.max_header_list_size) {
      state->headers_too_large = true;
      self.handler_.OnHeadersTooLarge(stream);
      return 0;
    }
    self.handler_.OnHeader(stream, {reinterpret_cast<const char*>(name), name_size},
                           {reinterpret_cast<const char*>(value), value_size});
    return 0;
  }

  static int OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* user_data) {
    Http2Session& self = Self(user_data);
    const int32_t stream = frame->hd.stream_id;
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
        if (Find(session, stream) == nullptr) return 0;
        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) self.handler_.OnHeadersEnd(stream);
        if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) self.handler_.OnEnd(stream);
        return 0;
      case NGHTTP2_DATA:
        if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 && Find(session, stream) != nullptr) {
          self.handler_.OnEnd(stream);
        }
        return 0;
      case NGHTTP2_RST_STREAM:
        self.CountReset();
        return 0;
      case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) self.handler_.OnPing();
        return 0;
      default:
        return 0;
    }
  }

  static bool SubmitTrailers(nghttp2_session* session, int32_t id, Stream& stream) {
    if (std::exchange(stream.trailed, true)) return true;
    NameValues nv(stream.trailers);
    return nghttp2_submit_trailer(session, id, nv.data(), nv.size()) == 0;
  }

  static int OnFrameSent(nghttp2_session* session, const nghttp2_frame* frame, void* user_data) {
    if (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) return 0;
    Self(user_data).sent_data_ = true;
    const int32_t id = frame->hd.stream_id;
    Stream* stream = Find(session, id);
    if (stream == nullptr) return 0;
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
      // The answer was ended after the library had asked for what was left of it.
      if (stream->ended && stream->body.size() == 0) SubmitTrailers(session, id, *stream);
    } else if (stream->stop_receiving && nghttp2_session_get_stream_remote_close(session, id) == 0) {
      // A reset that is submitted earlier would overtake the answer.
      nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_NO_ERROR);
    }
    return 0;
  }

  // Frames that make the library reset a stream count like resets of the client: both cost us work that it does not pay
  // for.
  static int OnInvalidFrame(nghttp2_session*, const nghttp2_frame*, int, void* user_data) {
    Self(user_data).CountReset();
    return 0;
  }

  static int OnData(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data, size_t size, void* user_data) {
    Http2Session& self = Self(user_data);
    Stream* stream = Find(session, id);
    self.data_next_ -= std::min(self.data_next_, size);
    const size_t done = stream == nullptr ? size : self.handler_.OnData(id, data, size);
    if (done < size) {
      stream->kept += size - done;
      self.kept_ += size - done;
    }
    if (done != 0) nghttp2_session_consume_stream(session, id, done);
    self.ConsumeConnection(size);
    return 0;
  }

  static int OnClose(nghttp2_session* session, int32_t stream, uint32_t, void* user_data) {
    if (Find(session, stream) == nullptr) return 0;
    nghttp2_session_set_stream_user_data(session, stream, nullptr);
    Http2Session& self = Self(user_data);
    self.handler_.OnClose(stream);
    const auto closed = self.streams_.find(stream);
    self.unsent_ -= closed->second.body.size();
    self.kept_ -= closed->second.kept;
    self.streams_.erase(closed);
    self.ConsumeConnection(0);
    return 0;
  }

  static ssize_t OnSend(nghttp2_session*, const uint8_t* data, size_t size, int, void* user_data) {
    Http2Session& self = Self(user_data);
    if (self.sending_->size() >= self.send_limit_) return NGHTTP2_ERR_WOULDBLOCK;
    self.sending_->Append({reinterpret_cast<const char*>(data), size});
    return static_cast<ssize_t>(size);
  }

  static ssize_t ReadLength(nghttp2_session*, uint8_t, int32_t, int32_t session_window, int32_t stream_window,
                            uint32_t max_frame_size, void*) {
    return std::min({session_window, stream_window, static_cast<int32_t>(std::min(max_frame_size, 1u << 20))});
  }

  static ssize_t ReadBody(nghttp2_session* session, int32_t id, uint8_t*, size_t size, uint32_t* flags,
                          nghttp2_data_source* source, void*) {
    Stream& stream = *static_cast<Stream*>(source->ptr);
    if (stream.body.size() == 0 && !stream.ended) {
      stream.waiting = true;
      return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    stream.promised = std::min(size, stream.body.size());
    if (stream.promised == stream.body.size() && stream.ended) {
      *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
      if (!SubmitTrailers(session, id, stream)) return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return static_cast<ssize_t>(stream.promised);
  }

  static int SendBody(nghttp2_session*, nghttp2_frame*, const uint8_t* frame_header, size_t size,
                      nghttp2_data_source* source, void* user_data) {
    Http2Session& self = Self(user_data);
    if (self.sending_->size() >= self.send_limit_) return NGHTTP2_ERR_WOULDBLOCK;
    self.sending_->Append({reinterpret_cast<const char*>(frame_header), kMaxFrameHeader});
    Stream& stream = *static_cast<Stream*>(source->ptr);
    stream.body.MoveTo(*self.sending_, size);
    stream.promised = 0;
    self.unsent_ -= size;
    return 0;
  }
};

Http2Session::Http2Session(Http2Handler& handler, const Options& options)
    : handler_(handler), options_(options), reset_tokens_(options.reset_burst), reset_refill_ns_(MonotonicNs()) {
  nghttp2_session_callbacks* callbacks = nullptr;
  if (nghttp2_session_callbacks_new(&callbacks) != 0) throw std::bad_alloc();
  nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, Callbacks::OnBeginFrame);
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, Callbacks::OnBeginHeaders);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, Callbacks::OnHeader);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, Callbacks::OnFrame);
  nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, Callbacks::OnInvalidFrame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Callbacks::OnData);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, Callbacks::OnClose);
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, Callbacks::OnFrameSent);
  nghttp2_session_callbacks_set_send_callback(callbacks, Callbacks::OnSend);
  nghttp2_session_callbacks_set_send_data_callback(callbacks, Callbacks::SendBody);
  nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, Callbacks::ReadLength);
  nghttp2_option* option = nullptr;
  if (nghttp2_option_new(&option) != 0) {
    nghttp2_session_callbacks_del(callbacks);
    throw std::bad_alloc();
  }
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_mem memory = RecyclingMemory();
  const int created = nghttp2_session_server_new3(&session_, callbacks, this, option, &memory);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  if (created != 0) throw std::bad_alloc();
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options_.max_concurrent_streams},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, options_.stream_window},
      {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, options_.max_frame_size},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<uint32_t>(options_.max_header_list_size)},
  };
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, options_.connection_window);
}

Http2Session::~Http2Session() { nghttp2_session_del(session_); }

bool Http2Session::CountReset() {
  const int64_t now = MonotonicNs();
  const double seconds = static_cast<double>(now - reset_refill_ns_) * 1e-9;
  reset_refill_ns_ = now;
  reset_tokens_ = std::min(options_.reset_burst, reset_tokens_ + seconds * options_.resets_per_second);
  reset_tokens_ -= 1;
  if (reset_tokens_ >= 0) return true;
  nghttp2_session_terminate_session(session_, NGHTTP2_ENHANCE_YOUR_CALM);
  return false;
}

bool Http2Session::Receive(const uint8_t* data, size_t size) {
  if (failed_ || abandoned_) return false;
  // The library answers protocol errors with GOAWAY by itself; a negative result means that it can not go on.
  failed_ = nghttp2_session_mem_recv(session_, data, size) < 0;
  return !failed_;
}

bool Http2Session::WasLeftOut(int32_t id) {
  if (id > last_stream_) {
    if (id > last_stream_ + 2) {
      if (left_out_.size() == kMaxLeftOut) left_out_.erase(left_out_.begin());
      left_out_.emplace_back(last_stream_ + 2, id);
    }
    last_stream_ = id;
    return false;
  }
  return std::any_of(left_out_.begin(), left_out_.end(),
                     [id](const auto& gap) { return gap.first <= id && id < gap.second; });
}

Http2Session::Stream* Http2Session::Find(int32_t id) {
  const auto found = streams_.find(id);
  return found == streams_.end() ? nullptr : &found->second;
}

void Http2Session::RespondHeaders(int32_t id, const Headers& headers) {
  NameValues nv(headers);
  nghttp2_submit_response(session_, id, nv.data(), nv.size(), nullptr);
}

void Http2Session::Start(int32_t id, const Headers& headers) {
  nghttp2_data_provider provider{};
  provider.source.ptr = Find(id);
  if (provider.source.ptr == nullptr) return;
  provider.read_callback = Callbacks::ReadBody;
  NameValues nv(headers);
  nghttp2_submit_response(session_, id, nv.data(), nv.size(), &provider);
}

void Http2Session::Write(int32_t id, Output part) {
  Stream* stream = Find(id);
  if (stream == nullptr) return;
  unsent_ += part.size();
  stream->body.Add(std::move(part));
  if (std::exchange(stream->waiting, false)) nghttp2_session_resume_data(session_, id);
}

void Http2Session::Finish(int32_t id, const Headers& trailers) {
  Stream* stream = Find(id);
  if (stream == nullptr) return;
  stream->ended = true;
  stream->trailers.assign(trailers.begin(), trailers.end());
  // The library would ask for data again, but not while the client's window is closed.
  if (stream->body.size() == 0) Callbacks::SubmitTrailers(session_, id, *stream);
}

void Http2Session::DropUnsent(int32_t id) {
  if (Stream* stream = Find(id)) unsent_ -= stream->body.Drop(stream->promised);
}

void Http2Session::StopReceiving(int32_t id) {
  if (Stream* stream = Find(id)) stream->stop_receiving = true;
}

void Http2Session::Consume(int32_t id, size_t size) {
  Stream* stream = Find(id);
  if (stream == nullptr || size == 0) return;
  stream->kept -= size;
  kept_ -= size;
  nghttp2_session_consume_stream(session_, id, size);
  ConsumeConnection(0);
}

void Http2Session::ConsumeConnection(size_t size) {
  withheld_ += size;
  if (withheld_ == 0 || kept_ > options_.max_kept) return;
  nghttp2_session_consume_connection(session_, std::exchange(withheld_, 0));
}

void Http2Session::Ping() { nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr); }

void Http2Session::SubmitGoAway(uint32_t error, std::string_view reason) {
  const int32_t last = nghttp2_session_get_last_proc_stream_id(session_);
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, last, error, reinterpret_cast<const uint8_t*>(reason.data()),
                        reason.size());
}

void Http2Session::GoAway(std::string_view reason) { SubmitGoAway(NGHTTP2_NO_ERROR, reason); }

void Http2Session::Abandon(uint32_t error, std::string_view reason) {
  if (std::exchange(abandoned_, true)) return;
  SubmitGoAway(error, reason);
}

size_t Http2Session::unsent(int32_t id) const {
  const auto found = streams_.find(id);
  return found == streams_.end() ? 0 : found->second.body.size();
}

bool Http2Session::Send(Output& output, size_t limit) {
  sending_ = &output;
  send_limit_ = limit;
  if (nghttp2_session_send(session_) != 0) failed_ = true;
  sending_ = nullptr;
  if (abandoned_ && output.size() < limit) failed_ = true;
  return output.size() >= limit && nghttp2_session_want_write(session_) != 0;
}

bool Http2Session::finished() const {
  return failed_ || (nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0);
}

}  // namespace pyinfer
