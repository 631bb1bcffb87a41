// SPDX-License-Identifier: Apache-2.0
// http_generate_fixtures.h - a client of the generate extension, and the bytes that it expects.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "http_fixtures.h"
#include "protocol/http_generate.h"

namespace pyinfer::testing {

using Kind = HttpConnection::Kind;

inline constexpr std::string_view kBody = R"({"X":7})";

struct GenerateClient : Client {
  explicit GenerateClient(HttpConnection::Options options = {}) : Client(options) { engine->answering = false; }

  void Generate(Kind kind = Kind::kGenerateStream, const std::string& model = "d", std::string_view body = kBody) {
    HttpConnection::InferCall call;
    call.model = model;
    call.kind = kind;
    Start(std::move(call), body);
  }
  void Start(HttpConnection::InferCall call, std::string_view body = kBody) {
    CHECK(connection->Append(body));
    CHECK(connection->Infer(std::move(call)) == nullptr);
  }
  RequestPtr Held(size_t index = 0) {
    RequestPtr taken = std::move(engine->held.at(index));
    engine->held.erase(engine->held.begin() + static_cast<std::ptrdiff_t>(index));
    return taken;
  }
  std::string Received() {
    while (Flush() != 0) {
    }
    return Take();
  }
};

inline Response Bytes(const std::string& data) {
  Response response;
  response.outputs = {{"X", DType::kUint8, {static_cast<int64_t>(data.size())}, Slice::Copy(data.data(), data.size())}};
  return response;
}

inline std::string Chunk(const std::string& text) {
  char size[16];
  std::snprintf(size, sizeof(size), "%zx", text.size());
  return std::string(size) + "\r\n" + text + "\r\n";
}

inline std::string Event(const std::string& value, const std::string& model = "d") {
  return Chunk("data: {\"X\":" + value + ",\"model_name\":\"" + model + "\",\"model_version\":\"1\"}\n\n");
}
inline std::string ErrorEvent(const std::string& text) { return Chunk("data: {\"error\":\"" + text + "\"}\n\n"); }

inline const std::string kHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
inline const std::string kErrorHead =
    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
inline const std::string kEnd = "0\r\n\r\n";
inline const std::string kNotOne =
    "{\"error\":\"generate expects model to produce exactly 1 response, use generate stream for model that generates "
    "various number of responses\"}";

inline std::string Json(int status, const std::string& body) {
  return "HTTP/1.1 " +
         std::string(status == 200   ? "200 OK"
                     : status == 400 ? "400 Bad Request"
                                     : "503 Service Unavailable") +
         "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace pyinfer::testing
