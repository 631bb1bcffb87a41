// SPDX-License-Identifier: Apache-2.0
// What the headers of a call say, its messages as bytes, and keys and headers over a connection.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grpc_fixtures.h"
#include "protocol/grpc_call.h"

namespace pyinfer {
namespace {

using testing::Field;
using testing::Framed;
using testing::GrpcPair;
using testing::HeaderList;
using testing::InferMessage;
using testing::kInfer;
using testing::kLive;
using testing::kStreamInfer;
using testing::MakeOptions;

TEST(GrpcRoutes, KnowInferenceFromTheStart) {
  GrpcRoutes routes;
  routes.Add("/a/B", GrpcRoute::Kind::kControl);
  routes.Add("/a/C", GrpcRoute::Kind::kControlStream);
  const GrpcRoutes copy = routes;
  CHECK(copy.Find(kInfer)->kind == GrpcRoute::Kind::kInfer && !copy.Find(kInfer)->streams());
  CHECK(copy.Find(kStreamInfer)->kind == GrpcRoute::Kind::kStreamInfer && copy.Find(kStreamInfer)->streams());
  CHECK(!copy.Find("/a/B")->streams() && copy.Find("/a/C")->streams());
  for (const char* path : {"", "/", "/a/D", "/a/B/", "/A/B"}) CHECK(copy.Find(path) == nullptr);
}

TEST(GrpcRoutes, Restrict) {
  GrpcRoutes routes;
  routes.Restrict(kInfer, "Admin-Key", "secret");
  CHECK_EQ(routes.Find(kInfer)->key_header, "triton-grpc-protocol-admin-key");
  CHECK_EQ(routes.Find(kStreamInfer)->key_header, "");
}

TEST(HeldBytes, KeepTheOrder) {
  HeldBytes held;
  std::string expected, taken;
  for (int i = 0; i < 1000; ++i) {
    const std::string text = std::to_string(i);
    held.Append(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    expected += text;
    const size_t now = std::min<size_t>(held.size(), static_cast<size_t>(i % 5));
    taken.append(reinterpret_cast<const char*>(held.data()), now);
    held.Drop(now);
  }
  taken.append(reinterpret_cast<const char*>(held.data()), held.size());
  held.Drop(held.size());
  CHECK_EQ(taken, expected);
  CHECK_EQ(held.size(), size_t{0});
}

TEST(GrpcMessages, ReadInAnySteps) {
  const std::string bytes = Framed("first") + Framed("") + Framed(std::string(1000, 'x'));
  for (const size_t step : {size_t{1}, size_t{3}, size_t{5}, size_t{6}, bytes.size()}) {
    MessageReader reader;
    std::vector<std::string> messages;
    size_t at = 0;
    while (at < bytes.size()) {
      const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
      const StatusOr<size_t> taken = reader.Feed(data + at, std::min(step, bytes.size() - at), 1000);
      CHECK(taken.ok() && taken.value() > 0);
      at += taken.value();
      CHECK(!reader.empty());
      if (reader.complete()) messages.emplace_back(reader.Take(Compression::kIdentity, 1000)->bytes.view());
    }
    CHECK(reader.empty() && !reader.complete());
    CHECK(messages == std::vector<std::string>({"first", "", std::string(1000, 'x')}));
  }
}

TEST(GrpcMessages, ChooseWhatTheClientAccepts) {
  using C = Compression;
  using L = CompressionLevel;
  struct Case {
    const char* accepts;
    C low, high;
  };
  for (const Case& one : {
           Case{"identity,deflate,gzip", C::kGzip, C::kDeflate},
           Case{"gzip, deflate", C::kGzip, C::kDeflate},
           Case{"gzip", C::kGzip, C::kGzip},
           Case{"identity, deflate", C::kDeflate, C::kDeflate},
           Case{"", C::kIdentity, C::kIdentity},
           Case{"identity", C::kIdentity, C::kIdentity},
           Case{"br,GZIP,gzip;q=1,,xdeflate", C::kIdentity, C::kIdentity},
       }) {
    CHECK(ChooseGrpcCompression(L::kNone, one.accepts) == C::kIdentity);
    CHECK(ChooseGrpcCompression(L::kLow, one.accepts) == one.low);
    CHECK(ChooseGrpcCompression(L::kMedium, one.accepts) == one.high);
    CHECK(ChooseGrpcCompression(L::kHigh, one.accepts) == one.high);
  }
}

std::string Bytes(const Output& output) {
  std::string bytes;
  for (const Slice& piece : output.pieces()) bytes += piece.view();
  return bytes += output.tail();
}

TEST(GrpcMessages, CompressOnlyWhatGetsSmaller) {
  const std::string large(20'000, 'l');
  Output framed(Framed("x" + large).substr(0, 6));
  framed.Append(Slice::Copy(large.data(), large.size()));
  for (const CompressionLevel level : {CompressionLevel::kLow, CompressionLevel::kMedium, CompressionLevel::kHigh}) {
    const std::string packed = Bytes(CompressMessage(framed, Compression::kDeflate, level));
    CHECK(packed.size() < 300);
    MessageReader reader;
    const auto* data = reinterpret_cast<const uint8_t*>(packed.data());
    CHECK_EQ(reader.Feed(data, packed.size(), 1000).value(), packed.size());
    CHECK_EQ(reader.Take(Compression::kDeflate, 1 << 20)->bytes.view(), "x" + large);
  }
  CHECK_EQ(Bytes(CompressMessage(FrameMessage("tiny"), Compression::kGzip, CompressionLevel::kHigh)), Framed("tiny"));
}

TEST(GrpcCall, ResponsesAreCompressedForThoseWhoAcceptIt) {
  GrpcConnection::Options options = MakeOptions();
  options.compression_level = CompressionLevel::kHigh;
  GrpcPair pair(options);
  const std::string data(5000, 'z');
  const int32_t accepts = pair.Infer(data, {{"grpc-accept-encoding", "identity,deflate,gzip"}});
  const int32_t tiny = pair.Infer("t", {{"grpc-accept-encoding", "gzip"}});
  const int32_t plain = pair.Infer(data);
  const int32_t control = pair.Call(Framed(""), {{"grpc-accept-encoding", "gzip"}}, kLive);
  const int32_t error = pair.Call(Framed(InferMessage("x", "none")), {{"grpc-accept-encoding", "gzip"}});
  pair.Exchange();
  auto& streams = pair.client.streams;
  CHECK_EQ(streams[accepts].headers["grpc-encoding"], "deflate");
  CHECK(streams[accepts].body.size() < 200 && streams[accepts].body[0] == 1);
  CHECK_EQ(streams[tiny].headers["grpc-encoding"], "gzip");
  pair.CheckAnswered(tiny, "t");
  CHECK_EQ(streams[plain].headers.count("grpc-encoding"), size_t{0});
  pair.CheckAnswered(plain, data);
  for (const auto& event : pair.connection->TakeEvents()) {
    pair.connection->Send(event.call, data);
    pair.connection->Finish(event.call, Status());
  }
  pair.Exchange();
  CHECK_EQ(streams[control].body, Framed(data));
  CHECK_EQ(streams[control].headers.count("grpc-encoding") + streams[error].headers.count("grpc-encoding"), size_t{0});
}

TEST(GrpcCall, ARestrictedMethodWantsItsKey) {
  GrpcConnection::Options options = MakeOptions();
  for (const char* path : {kInfer, kStreamInfer, kLive}) options.routes.Restrict(path, "k", "secret");
  GrpcPair pair(options);
  for (const char* path : {kInfer, kStreamInfer, kLive}) {
    for (const HeaderList& wrong : std::vector<HeaderList>{{},
                                                           {{"triton-grpc-protocol-k", ""}},
                                                           {{"triton-grpc-protocol-k", "secreT"}},
                                                           {{"triton-grpc-protocol-k", "secret1"}},
                                                           {{"triton-grpc-protocol-j", "secret"}},
                                                           {{"k", "secret"}}}) {
      const int32_t stream = pair.Call(Framed(InferMessage("x")), wrong, path);
      pair.Exchange();
      pair.CheckStatus(stream, "14", "This protocol is restricted, expecting header 'triton-grpc-protocol-k'");
    }
  }
  CHECK(pair.engine->held.empty() && !pair.connection->has_events());
  const HeaderList right = {{"triton-grpc-protocol-k", "secret"}};
  const int32_t infer = pair.Infer("x", right);
  const int32_t stream = pair.Call(Framed(InferMessage("x")), right, kStreamInfer);
  pair.Call(Framed(""), right, kLive);
  pair.Exchange();
  pair.CheckAnswered(infer, "x");
  pair.CheckStatus(stream, "0");
  CHECK_EQ(pair.connection->TakeEvents().size(), size_t{1});
}

TEST(GrpcCall, HeadersBecomeParameters) {
  GrpcConnection::Options options = MakeOptions();
  options.forwarding = std::move(HeaderForwarding::Make(".*")).value();
  GrpcPair pair(options);
  pair.engine->answering = false;
  const HeaderList headers = {{"x-a", "1"},
                              {"grpc-accept-encoding", "gzip"},
                              {"user-agent", "test"},
                              {"triton-grpc-protocol-k", "secret of another method"}};
  const std::string parameter = Field(4, Field(1, "mine") + Field(2, Field(3, "0")));
  for (const char* path : {kInfer, kStreamInfer}) pair.Call(Framed(InferMessage("x") + parameter), headers, path);
  pair.Exchange();
  CHECK_EQ(pair.engine->held.size(), size_t{2});
  for (const RequestPtr& request : pair.engine->held) {
    CHECK(request->parameters ==
          Parameters({{"mine", std::string("0")}, {"x-a", std::string("1")}, {"user-agent", std::string("test")}}));
  }
  for (const char* path : {kInfer, kStreamInfer}) {
    const int32_t refused = pair.Call(Framed(InferMessage("x")), {{"priority", "1"}, {"timeout", "2"}}, path);
    pair.Exchange();
    pair.CheckStatus(refused, "3", "Header 'priority' is reserved for Triton usage and cannot be forwarded.");
  }
  pair.Call(Framed(InferMessage("x")), {{"triton_grpc_error", "true"}}, kStreamInfer);
  pair.Call(Framed(""), {{"priority", "1"}}, kLive);  // not inference
  pair.Exchange();
  CHECK_EQ(pair.engine->held.size(), size_t{3});
  CHECK(pair.engine->held[2]->parameters.empty());
  CHECK(pair.connection->has_events());
}

TEST(GrpcCall, ControlCallsThatStream) {
  GrpcConnection::Options options = MakeOptions();
  options.routes.Add("/a/Talk", GrpcRoute::Kind::kControlStream);
  GrpcPair pair(options);
  using Kind = GrpcConnection::ControlEvent::Kind;
  const int32_t stream = pair.client.Request(testing::CallHeaders("/a/Talk"), Framed("one") + Framed("two"), true);
  pair.Exchange();
  auto events = pair.connection->TakeEvents();
  CHECK_EQ(events.size(), size_t{1});  // the second question waits for the first answer
  CHECK(events[0].kind == Kind::kMessage && events[0].message.view() == "one" && events[0].path == "/a/Talk");
  pair.connection->Send(stream, "answer");
  pair.Exchange();
  CHECK_EQ(pair.client.streams[stream].body, Framed("answer"));
  events = pair.connection->TakeEvents();
  CHECK(events.size() == 1 && events[0].message.view() == "two");
  pair.client.FinishSending(stream);
  pair.Exchange();
  events = pair.connection->TakeEvents();
  CHECK(events.size() == 1 && events[0].kind == Kind::kEnd);
  pair.connection->Finish(stream, Status());
  pair.connection->Send(stream, "too late");
  pair.Exchange();
  pair.CheckStatus(stream, "0");
  CHECK(!pair.connection->has_events());

  const int32_t gone = pair.client.Request(testing::CallHeaders("/a/Talk"), Framed("one"), true);
  const int32_t late = pair.client.Request(testing::CallHeaders("/a/Talk", {{"grpc-timeout", "5n"}}), "", true);
  pair.Exchange();
  pair.connection->TakeEvents();
  pair.client.Reset(gone);
  pair.Exchange();
  events = pair.connection->TakeEvents();
  CHECK(events.size() == 1 && events[0].kind == Kind::kGone && events[0].call == gone);
  pair.engine->now += 5;
  pair.Exchange();
  events = pair.connection->TakeEvents();
  CHECK(events.size() == 1 && events[0].kind == Kind::kGone && events[0].call == late);
  pair.CheckStatus(late, "4", "Deadline Exceeded");
  const int32_t open = pair.client.Request(testing::CallHeaders("/a/Talk"), "", true);
  pair.Exchange();
  pair.connection->Drain();
  pair.Exchange();
  pair.CheckStatus(open, "14", "GRPC server is shutting down and has stopped accepting new requests.");
}

}  // namespace
}  // namespace pyinfer
