// SPDX-License-Identifier: Apache-2.0
// session.h - the client's side of one connection: requests in, bytes out; bytes in, answers out. No socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pyinfer {

struct Answer {
  std::string_view error;  // what went wrong, for people; empty where nothing did
  size_t size = 0;         // of the body, as it came over the wire
  // Where the session keeps bodies; that of the last response on a stream.
  std::string_view body;
  size_t header_size = 0;  // of a body over HTTP, as Inference-Header-Content-Length has it
  // Tokens of output, where the server has told; 0: it has not.
  uint64_t tokens = 0;
  // Where the session keeps bodies of OpenAI's grammar: what the model has said, an object of JSON as a chat has it.
  // Empty where the answer has none.
  std::string_view message = {};
};

class SessionHandler {
 public:
  virtual ~SessionHandler() = default;
  // The first bytes of the answer to the request in `slot` have come.
  virtual void OnAnswerBegins(uint32_t slot) = 0;
  // A response to the request in `slot` has come, where an answer is a stream of them.
  virtual void OnResponse(uint32_t slot) = 0;
  // The request in `slot` is over; the last call for it. The views are valid during the call.
  virtual void OnAnswer(uint32_t slot, const Answer& answer) = 0;
};

// Requests are told apart by slots, numbers from 0 to `slots` - 1 that the caller gives and takes back. One thread.
class ClientSession {
 public:
  virtual ~ClientSession() = default;
  // Whether a request may be submitted now. A connection that the server is closing takes no more.
  virtual bool Ready() const = 0;
  // `body` outlives the request. Requires: Ready(), and that `slot` is free.
  virtual void Submit(uint32_t slot, std::string_view body) = 0;
  // Bytes of the server, whatever they are; calls the handler. False where the connection can not go on.
  virtual bool Receive(const char* data, size_t size) = 0;
  // Appends what may be written now to `out`, about `limit` bytes at most. False where the connection can not go on.
  virtual bool Send(std::string& out, size_t limit) = 0;
  // Nothing is in flight and nothing new will be taken: close.
  virtual bool finished() const = 0;
  // The connection is lost: all that is in flight is answered with `reason`. An answer that ends with the connection
  // has come whole where the server closed it (`by_server`).
  virtual void Fail(std::string_view reason, bool by_server) = 0;
  // Why the connection can not go on, where more is known than that the server has broken the protocol.
  virtual std::string_view failure() const { return {}; }
};

using ClientHeaders = std::vector<std::pair<std::string, std::string>>;

// Unary calls over HTTP/2. A body is a message with the five bytes that go before it. `headers` are those
// of each request, with the pseudo-headers first; they outlive the session. `keep_bodies`: for Answer::body.
std::unique_ptr<ClientSession> MakeGrpcSession(SessionHandler& handler, const ClientHeaders& headers, uint32_t slots,
                                               bool keep_bodies);

// ModelStreamInfer over HTTP/2: one call for all requests, opened with the first and again where the server
// has ended it. A body is a ModelInferRequest with the five bytes before it and without an id: the session gives each
// its own. A request is over with the response that says so (triton_final_response, or has no such parameter); one
// without outputs that only says so is not counted as a response.
std::unique_ptr<ClientSession> MakeGrpcStreamSession(SessionHandler& handler, const ClientHeaders& headers,
                                                     uint32_t slots);

// What the events of a text/event-stream say.
enum class EventGrammar {
  kGenerate,  // each is a response; {"error": ...} is an error
  kOpenAi,    // chunks of a completion, usage, [DONE]
};

// HTTP/1.1, one request at a time, in slot 0. A body is a whole request: request line, headers and body. An answer of
// the type text/event-stream is a stream of responses. `keep_bodies`: for Answer::body, of answers of status 200 that
// are no streams, and for Answer::message.
std::unique_ptr<ClientSession> MakeHttpSession(SessionHandler& handler, EventGrammar events = EventGrammar::kGenerate,
                                               bool keep_bodies = false);

}  // namespace pyinfer
