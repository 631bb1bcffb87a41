// SPDX-License-Identifier: Apache-2.0
// http_connection.h - infer requests of one HTTP/1.1 connection, and the order in which its answers leave.
//
// Whoever parses HTTP collects a body here and then starts an inference with it, or takes it for a control request.
// Every request has a place; answers leave in the order of places, whichever is ready first. An answer that is streamed
// leaves as it is made, once it is the first; until then, and while the transport can not take more, its parts wait
// here, and what may wait is bounded (see http_generate.h). Loop thread, except ParseJob.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "infer/request.h"
#include "memory/buffer.h"
#include "protocol/connection.h"
#include "protocol/http_host.h"
#include "protocol/http_place.h"
#include "wire/gzip.h"
#include "wire/http_head.h"

namespace pyinfer {

class KnownHeads;

class HttpConnection final : public Connection, public HttpHost {
 public:
  struct Options {
    size_t max_input_size = size_t{64} << 20;  // of JSON, of JSON tensors, of raw tensors, of decompressed bodies
    size_t max_body_size = 0x7fffffff;
    // Of streamed answers that the client leaves unread: of one connection, and of all of the mailbox. The fuller the
    // latter is the less each may have, down to a 64th: readers that stop do not take the memory of a server.
    size_t max_unread = size_t{64} << 20;
    size_t max_unread_of_all = size_t{1} << 30;
  };

  // What is wanted of a model.
  enum class Kind {
    kInfer,           // tensors in, tensors out
    kGenerate,        // one JSON object in, one out
    kGenerateStream,  // the same, with an event for each response
  };

  // What the head of a request for an inference says, as texts.
  struct InferCall {
    Kind kind = Kind::kInfer;
    std::string model;
    std::string version;                       // "": the latest
    std::optional<std::string> header_length;  // the text of Inference-Header-Content-Length
    std::string content_encoding;
    std::string accept_encoding;
    bool keep_alive = true;
    bool chunked = true;   // the client understands chunked answers
    Parameters forwarded;  // headers that become parameters
    std::string refusal;   // why none of them does: the request is answered with it; "" where nothing is wrong
  };

  // The same, understood once for all requests that have the same head. Immutable.
  class InferHead {
   public:
    InferHead(InferCall call);  // NOLINT: implicit by design

    // A request with this head leaves its connection open, and its body is as it is.
    bool plain() const { return keep_alive_ && body_compression_ == Compression::kIdentity; }

   private:
    friend class HttpConnection;
    Kind kind_;
    std::string model_;
    StatusOr<int64_t> version_;
    std::optional<std::string> header_length_;
    Compression body_compression_;
    Compression answer_compression_;
    bool keep_alive_;
    bool chunked_;
    Parameters forwarded_;
    std::string refusal_;
  };

  struct Room {
    uint8_t* data;
    size_t size;
  };

 private:
  class Exchange;

 public:
  // The reading of one body. A job that is destroyed without having run answers its request with an error.
  class ParseJob {
   public:
    // Decompresses, reads and submits. Once, on any thread.
    // `dispatch`: set where that is not the loop's thread, which dispatches by itself.
    void Run(bool dispatch);

   private:
    friend class HttpConnection;
    Status Read();

    std::shared_ptr<Mailbox> mailbox_;
    std::shared_ptr<Exchange> exchange_;  // null for those of the generate extension
    RequestPtr request_;
    Slice body_;
    Compression compression_ = Compression::kIdentity;
    std::optional<std::string> header_length_;
    Parameters forwarded_;
    size_t max_input_size_ = 0;
  };

  HttpConnection(std::shared_ptr<Mailbox> mailbox, uint64_t id, Options options);

  // Appends to the current body; false (and nothing kept of `chunk`) where it would become larger than allowed.
  bool Append(std::string_view chunk);
  // Room for bytes of the current body, of which `size` are still to come: at most so many, less where what was
  // received does not warrant as much, 0 once it is as large as allowed.
  Room BodyBuffer(size_t size);
  // `size` bytes were written to the last room.
  void BodyFilled(size_t size) { body_.Commit(size); }
  size_t body_size() const { return body_.size(); }
  // The current body; the next one starts empty.
  Slice TakeBody();

  // Starts the inference whose body was collected. Returns its job where the body is too large to be read on the loop.
  // `last`: the connection closes after the answer, whatever the head says. `context`: the client's trace, if any.
  std::unique_ptr<ParseJob> Infer(const InferHead& head, bool last = false,
                                  std::unique_ptr<TraceContext> context = nullptr);

  // Starts the inferences whose requests lie whole at the beginning of `received`, as long as their heads are known.
  // Returns the bytes that these have. Requires: nothing of a body is collected.
  size_t Take(KnownHeads& known, std::string_view received);

  // A place in the order of answers, to be filled by Respond.
  uint64_t Open();
  // Answers a control request. Content-Length is added, unless there is no body because the request was HEAD.
  // A place that is gone is ignored.
  void Respond(uint64_t place, int status, std::optional<std::string_view> body, const std::vector<HttpHeader>& headers,
               bool keep_alive);

  // Places whose answer has not been handed out in full.
  size_t in_flight() const { return places_.size(); }

  // The client sends no more. It may still wait for its answers, but for events it does not (as in Triton): those that
  // are being made are cancelled, and the connection is closed where they would stand. Idempotent.
  void HangUp();

  // The connection is lost: its requests are cancelled, its answers dropped. Idempotent.
  void Close();

  bool TakeOutput(Output& output) override;
  void Pause() override { paused_ = true; }
  void Resume() override;

  Mailbox& mailbox() override { return *mailbox_; }
  bool closed() const noexcept override { return closed_.load(std::memory_order_relaxed); }
  void Fill(uint64_t place, Output answer, bool close, std::shared_ptr<Trace> trace) override;
  void Stream(uint64_t place, Output part, std::shared_ptr<Trace> trace) override;
  void End(uint64_t place, bool close) override;
  void Break(uint64_t place, Output last, bool close) override;
  size_t unsent() const override { return unsent_; }
  bool overrun() const override;

 private:
  // Null where the place is gone or its answer complete.
  HttpPlace* FindOpen(uint64_t place);
  // There is something to hand out.
  void Notify(uint64_t place);
  // Does something to a place, and keeps count of the bytes that wait in it.
  template <typename Change>
  void Counted(HttpPlace& place, Change change);
  // Where the answer to a request goes; `exchange` is set for kInfer alone.
  std::shared_ptr<CompletionSink> MakeSink(const InferHead& head, uint64_t place, bool keep_alive,
                                           std::shared_ptr<Exchange>& exchange);
  // Finds the model; why the request is refused before its body is read.
  Status Check(const InferHead& head, Request& request);
  // A piece of the current body is coming.
  void NoteBody();

  const std::shared_ptr<Mailbox> mailbox_;
  const Options options_;
  GrowingBuffer body_;
  TimeNs body_begun_ = 0;    // when its first piece came; 0: none has
  bool body_split_ = false;  // it came in several
  std::deque<HttpPlace> places_;
  uint64_t first_place_ = 0;  // the number of places_.front()
  size_t unsent_ = 0;         // of all of them
  bool paused_ = false;
  std::atomic<bool> closed_{false};
};

}  // namespace pyinfer
