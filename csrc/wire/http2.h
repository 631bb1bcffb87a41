// SPDX-License-Identifier: Apache-2.0
// http2.h - the server side of one HTTP/2 connection: bytes in, events out; submissions in, bytes out.
//
// libnghttp2 does framing, HPACK and flow control. This adds the limits that a public server needs: the size of a
// header list, the rate of resets in both directions, the depth of the queue of control frames. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "memory/output.h"
#include "memory/recycler.h"

struct nghttp2_session;

namespace pyinfer {

using Headers = std::vector<std::pair<std::string_view, std::string_view>>;

class Http2Handler {
 public:
  virtual ~Http2Handler() = default;
  // One header of the request on `stream`; the views are valid during the call.
  virtual void OnHeader(int32_t stream, std::string_view name, std::string_view value) = 0;
  // The header list is too large to be kept; OnHeader is no longer called for it.
  virtual void OnHeadersTooLarge(int32_t stream) = 0;
  virtual void OnHeadersEnd(int32_t stream) = 0;
  // Returns how many of the bytes are done with. For the others the client gets no more room on this stream until
  // Consume is called.
  virtual size_t OnData(int32_t stream, const uint8_t* data, size_t size) = 0;
  // The client has sent all it will send on this stream.
  virtual void OnEnd(int32_t stream) = 0;
  // The stream is gone, after an answer or by a reset from either side. The last call for this stream.
  virtual void OnClose(int32_t stream) = 0;
  // The client asks whether the connection lives; it is answered already.
  virtual void OnPing() = 0;
};

class Http2Session {
 public:
  struct Options {
    uint32_t max_concurrent_streams = 1024;
    uint32_t stream_window = 8u << 20;
    int32_t connection_window = 32 << 20;
    uint32_t max_frame_size = 1u << 20;
    size_t max_header_list_size = 16u << 10;
    // Bytes that OnData may keep, over all streams, before the connection as a whole gets no more room either.
    size_t max_kept = 16u << 20;
    // Resets (sent or received) that are tolerated in a burst, and per second. Fewer than the library tolerates (1000,
    // 33): it would tell the client of an internal error.
    double reset_burst = 900;
    double resets_per_second = 33;
  };

  // `handler` outlives this.
  Http2Session(Http2Handler& handler, const Options& options);
  ~Http2Session();
  Http2Session(const Http2Session&) = delete;
  Http2Session& operator=(const Http2Session&) = delete;

  // Understands bytes of the client; calls the handler. Returns false where the connection can not go on: what Send
  // still yields (a GOAWAY) is to be written and the connection closed.
  bool Receive(const uint8_t* data, size_t size);

  // Answers with headers, a body in any number of parts, and trailers. Names and values are copied.
  void Start(int32_t stream, const Headers& headers);
  void Write(int32_t stream, Output part);
  void Finish(int32_t stream, const Headers& trailers);
  // Answers with headers alone.
  void RespondHeaders(int32_t stream, const Headers& headers);
  // Forgets the parts that are not being sent yet.
  void DropUnsent(int32_t stream);
  // Asks the client, once the answer is sent, to stop sending on the stream if it still does.
  void StopReceiving(int32_t stream);
  // Done with `size` of the bytes that OnData has kept.
  void Consume(int32_t stream, size_t size);

  // The stream whose data are being received, and how many bytes of them come next; 0 where something else does.
  int32_t data_stream() const { return data_stream_; }
  size_t data_next() const { return data_next_; }

  void Ping();
  // Tells the client to open no new streams; those open are finished. `reason` is for people.
  void GoAway(std::string_view reason);
  // The same for a client that does not behave (`error` of HTTP/2): what can be sent at once still is, then the
  // connection is finished().
  void Abandon(uint32_t error, std::string_view reason);

  // Appends what may be written now to `output`, about `limit` bytes at most. Returns true where there may be more.
  bool Send(Output& output, size_t limit);
  // Bytes of answers that the client's flow control, or the transport, does not let out yet; those of one stream.
  size_t unsent() const { return unsent_; }
  size_t unsent(int32_t stream) const;
  // Whether the client gets no more room on the connection because too much is kept.
  bool withholds() const { return withheld_ != 0; }
  // Whether headers or data were sent since the last time it was asked.
  bool TakeSentData() { return std::exchange(sent_data_, false); }
  // Nothing is left to read or to write: close.
  bool finished() const;

 private:
  struct Callbacks;
  struct Stream;

  // False where there have been too many resets: the connection is being ended.
  bool CountReset();
  // Remembers which streams the client leaves out; true where `stream` is one of these, which are closed by that.
  bool WasLeftOut(int32_t stream);
  Stream* Find(int32_t stream);
  void SubmitGoAway(uint32_t error, std::string_view reason);
  // Gives the client room for `size` more bytes on the connection, unless too many are kept on its streams.
  void ConsumeConnection(size_t size);

  Http2Handler& handler_;
  const Options options_;
  nghttp2_session* session_ = nullptr;
  RecyclingMap<int32_t, Stream> streams_;
  int32_t last_stream_ = -1;                           // the highest that the client has used
  std::vector<std::pair<int32_t, int32_t>> left_out_;  // the first stream left out, and that which came instead
  int32_t data_stream_ = 0;
  size_t data_next_ = 0;
  Output* sending_ = nullptr;  // during Send
  size_t send_limit_ = 0;
  double reset_tokens_;
  int64_t reset_refill_ns_ = 0;
  size_t unsent_ = 0;
  size_t kept_ = 0;      // bytes that OnData has kept, of all streams
  size_t withheld_ = 0;  // room on the connection that the client does not get for that reason
  bool sent_data_ = false;
  bool abandoned_ = false;
  bool failed_ = false;
};

}  // namespace pyinfer
