// SPDX-License-Identifier: Apache-2.0
// grpc_stream_fixtures.h - a connection with one call of ModelStreamInfer, and what it answers.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "grpc_fixtures.h"

namespace pyinfer::testing {

inline std::string Final(bool final) {
  return Field(4, Field(1, "triton_final_response") + Field(2, Number(1, final ? 1 : 0)));
}

// What a stream says of an answer.
inline std::string Answer(std::string_view data, std::string_view model = "m", std::string_view id = "",
                          bool final = true) {
  return Framed(
      Field(2, Field(1, model) + Field(2, "1") + (id.empty() ? "" : Field(3, id)) +
                   Field(5, Field(1, "X") + Field(2, "UINT8") + Field(3, Packed({static_cast<int64_t>(data.size())}))) +
                   Final(final) + Field(6, data)));
}

inline std::string Refusal(std::string_view text, std::string_view id = "") {
  return Framed(Field(1, text) + Field(2, id.empty() ? "" : Field(3, id)));
}

inline constexpr const char* kUnknownModel = "Request for unknown model: 'é%' is not found";

// A connection with one open stream.
struct StreamPair : GrpcPair {
  explicit StreamPair(const HeaderList& more = {}, GrpcConnection::Options options = MakeOptions(),
                      int32_t client_window = 65535)
      : GrpcPair(std::move(options), client_window),
        id(client.Request(CallHeaders(kStreamInfer, more), "", /*keep_open=*/true)) {}

  void Ask(std::string_view message) { client.SendMore(id, Framed(message)); }
  std::string Body() { return std::exchange(client.streams[id].body, ""); }
  void Halfclose() { client.FinishSending(id); }
  bool closed() { return client.streams[id].closed; }
  std::string Status() { return client.streams[id].headers["grpc-status"]; }
  std::string Message() { return client.streams[id].headers["grpc-message"]; }
  // The request that has been held for as long as the others were not.
  RequestPtr TakeHeld(size_t index = 0) {
    RequestPtr taken = std::move(engine->held.at(index));
    engine->held.erase(engine->held.begin() + static_cast<std::ptrdiff_t>(index));
    return taken;
  }

  const int32_t id;
};

inline Response Echo(const Request& request) {
  Response response;
  response.outputs = request.inputs;
  return response;
}

}  // namespace pyinfer::testing
