// SPDX-License-Identifier: Apache-2.0
// http_fixtures.h - an HTTP connection, what its client has received, and a model behind it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "check.h"
#include "infer/validate.h"
#include "protocol/http_connection.h"

namespace pyinfer::testing {

// Knows "m", whose outputs are its inputs, and "d", which is decoupled. Answers when it is told to, the last request
// first.
class Identity final : public RequestAcceptor {
 public:
  Identity() {
    for (const char* name : {"m", "d"}) {
      auto spec = std::make_shared<ModelSpec>();
      spec->name = name;
      spec->version_text = "1";
      spec->inputs = spec->outputs = {{"X", DType::kUint8, {-1}, {}, false}};
      spec->decoupled = spec->name == "d";
      specs_[name] = std::move(spec);
    }
  }
  TimeNs Now() const override { return 1; }
  const SharedMemoryRegistry& shared_memory() const override { return regions; }
  Status Resolve(Request& request) override {
    const auto found = specs_.find(request.model_name);
    if (found == specs_.end())
      return Status::NotFound("Request for unknown model: '" + request.model_name + "' is not found");
    request.model = found->second;
    return Status();
  }
  void Submit(RequestPtr request) override {
    if (Status status = ValidateRequest(*request); !status.ok()) {
      return request->Fail(FailureReason::kOther, std::move(status));
    }
    request->timeline.picked = 1;
    held.push_back(std::move(request));
  }
  void Dispatch() override {
    ++dispatches;
    if (answering) AnswerAll();
  }
  void NoteCancellation() override { ++cancellations; }

  void AnswerAll() {
    while (!held.empty()) {
      const RequestPtr request = std::move(held.back());
      held.pop_back();
      Response response;
      response.outputs = request->inputs;
      request->Answer(std::move(response));
    }
  }

  std::vector<RequestPtr> held;
  bool answering = true;
  int dispatches = 0;
  int cancellations = 0;

 private:
  SharedMemoryRegistry regions;
  std::map<std::string, std::shared_ptr<const ModelSpec>> specs_;
};

// A connection, and what its client has received.
struct Client {
  explicit Client(HttpConnection::Options options = {})
      : connection(std::make_shared<HttpConnection>(mailbox, 5, options)) {}
  // A request that is held keeps the connection, and that the mailbox, and that the engine, and that the request.
  ~Client() {
    if (connection) connection->Close();
    mailbox->Close();
    engine->held.clear();
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  static std::string Json(int value) {
    return "{\"inputs\":[{\"name\":\"X\",\"datatype\":\"UINT8\",\"shape\":[1],\"data\":[" + std::to_string(value) +
           "]}]}";
  }
  static HttpConnection::InferCall Call() {
    HttpConnection::InferCall call;
    call.model = "m";
    return call;
  }
  std::unique_ptr<HttpConnection::ParseJob> Infer(std::string_view body, HttpConnection::InferCall call = Call()) {
    CHECK(connection->Append(body));
    return connection->Infer(std::move(call));
  }
  // One flush; what was written by it.
  size_t Flush() {
    size_t size = 0;
    for (Written& written : mailbox->Flush()) {
      CHECK_EQ(written.connection_id, uint64_t{5});
      for (const Slice& piece : written.output.pieces()) received += piece.view();
      received += written.output.tail();
      size += written.output.size();
      closed = closed || written.close;
    }
    return size;
  }
  // What was received since the last call.
  std::string Take() { return std::exchange(received, {}); }

  std::shared_ptr<Identity> engine = std::make_shared<Identity>();
  std::shared_ptr<Mailbox> mailbox = std::make_shared<Mailbox>(engine);
  std::shared_ptr<HttpConnection> connection;
  std::string received;
  bool closed = false;
};

inline bool Contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

}  // namespace pyinfer::testing
