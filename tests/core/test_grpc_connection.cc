// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "grpc_fixtures.h"
#include "wire/gzip.h"

namespace pyinfer {
namespace {

using testing::CallHeaders;
using testing::Framed;
using testing::GrpcPair;
using testing::InferMessage;
using testing::kInfer;
using testing::kLive;
using testing::MakeOptions;

TEST(Grpc, AnswersACall) {
  GrpcPair pair;
  const int32_t stream = pair.Infer("abc");
  pair.Exchange();
  pair.CheckAnswered(stream, "abc");
  CHECK_EQ(pair.client.resets, size_t{0});
  CHECK_EQ(pair.connection->in_flight(), size_t{0});
  CHECK(!pair.closed);
}

TEST(Grpc, AnswersManyCalls) {
  GrpcPair pair;
  std::vector<std::pair<int32_t, std::string>> calls;
  for (int i = 0; i < 90; ++i) {
    std::string data(static_cast<size_t>(i * 37), static_cast<char>(i));
    calls.emplace_back(pair.Infer(data), std::move(data));
  }
  pair.Exchange();
  for (const auto& [stream, data] : calls) pair.CheckAnswered(stream, data);
}

TEST(Grpc, AnswersAcrossThreads) {
  GrpcPair pair;
  pair.engine->answering = false;
  std::vector<int32_t> streams;
  for (int i = 0; i < 50; ++i) streams.push_back(pair.Infer(std::to_string(i)));
  pair.Exchange();
  CHECK_EQ(pair.connection->in_flight(), size_t{50});
  std::thread([&pair] { pair.engine->AnswerAll(); }).join();
  pair.Exchange();
  for (size_t i = 0; i < 50; ++i) pair.CheckAnswered(streams[i], std::to_string(i));
}

TEST(Grpc, SplitAnywhere) {
  std::string whole;
  {
    testing::Http2Client client;
    client.Request(CallHeaders(kInfer), Framed(InferMessage("hello")));
    client.Request(CallHeaders(kLive), Framed(""));
    whole = client.Written();
  }
  for (size_t cut = 1; cut < whole.size(); ++cut) {
    GrpcPair pair;
    pair.client.Request(CallHeaders(kInfer), Framed(InferMessage("hello")));
    pair.client.Request(CallHeaders(kLive), Framed(""));
    CHECK(pair.client.Written() == whole);
    pair.Deliver(std::string_view(whole).substr(0, cut));
    pair.client.Receive(pair.Flush());
    pair.Deliver(std::string_view(whole).substr(cut));
    pair.Exchange();
    pair.CheckAnswered(1, "hello");
    CHECK_EQ(pair.connection->TakeEvents().size(), size_t{1});
  }
  GrpcPair pair;
  pair.client.Request(CallHeaders(kInfer), Framed(InferMessage("hello")));
  for (const char byte : pair.client.Written()) pair.Deliver({&byte, 1});
  pair.Exchange();
  pair.CheckAnswered(1, "hello");
}

TEST(Grpc, HandsOutControlCalls) {
  GrpcPair pair;
  const int32_t good = pair.Call(Framed("ask"), {}, kLive);
  const int32_t bad = pair.Call(Framed(""), {}, kLive);
  const int32_t gone = pair.Call(Framed(""), {}, kLive);
  pair.Exchange();
  CHECK(pair.connection->has_events());
  const auto calls = pair.connection->TakeEvents();
  CHECK(!pair.connection->has_events());
  CHECK_EQ(calls.size(), size_t{3});
  CHECK_EQ(calls[0].path, kLive);
  CHECK_EQ(calls[0].message.view(), "ask");
  pair.client.Reset(gone);
  pair.Exchange();
  for (const auto& call : calls) {
    if (call.call == bad) {
      pair.connection->Finish(call.call, Status::NotFound("none"));
    } else {
      pair.connection->Send(call.call, "answer");
      pair.connection->Finish(call.call, Status());
      pair.connection->Send(call.call, "twice");
    }
  }
  pair.connection->Finish(12345, Status::Internal("no such call"));
  pair.Exchange();
  pair.CheckStatus(good, "0");
  CHECK(pair.client.streams[good].body == Framed("answer"));
  pair.CheckStatus(bad, "5", "none");
  CHECK_EQ(pair.client.streams[gone].body, "");
}

TEST(Grpc, RefusesWhatIsNotACall) {
  GrpcPair pair;
  auto headers = CallHeaders(kInfer);
  headers[0].second = "GET";
  const int32_t get = pair.client.Request(headers, "");
  headers = CallHeaders(kInfer);
  headers[4].second = "application/json";
  const int32_t json = pair.client.Request(headers, "{}");
  // Even where the client would go on sending, the stream ends.
  const int32_t open = pair.client.Request(headers, "{", true);
  const int32_t unknown = pair.Call(Framed(""), {}, "/x/Y");
  const int32_t proto = pair.client.Request(
      [] {
        auto list = CallHeaders(kInfer);
        list[4].second = "application/grpc+proto";
        return list;
      }(),
      Framed(InferMessage("p")));
  pair.Exchange();
  CHECK_EQ(pair.client.streams[get].headers[":status"], "405");
  CHECK_EQ(pair.client.streams[json].headers[":status"], "415");
  CHECK(pair.client.streams[open].closed);
  pair.CheckStatus(unknown, "12", "unknown method /x/Y");
  pair.CheckAnswered(proto, "p");
  CHECK_EQ(pair.connection->in_flight(), size_t{0});
}

TEST(Grpc, EncodesMessages) {
  GrpcPair pair;
  const int32_t stream = pair.Call(Framed(InferMessage("x", "none")));
  pair.Exchange();
  pair.CheckStatus(stream, "5", "Request for unknown model: '%C3%A9%25' is not found");
}

TEST(Grpc, CompressedMessages) {
  GrpcPair pair;
  const std::string message = InferMessage(std::string(5000, 'z'));
  const auto packed = [&message](Compression compression) {
    return std::string(Compress(compression, {message})->view());
  };
  const int32_t gzip = pair.Call(Framed(packed(Compression::kGzip), true), {{"grpc-encoding", "gzip"}});
  const int32_t deflate = pair.Call(Framed(packed(Compression::kDeflate), true), {{"grpc-encoding", "deflate"}});
  const int32_t plain = pair.Call(Framed(message), {{"grpc-encoding", "gzip"}});
  const int32_t unknown = pair.Call(Framed(message), {{"grpc-encoding", "snappy"}});
  const int32_t unnamed = pair.Call(Framed(packed(Compression::kGzip), true));
  const int32_t identity = pair.Call(Framed(message, true), {{"grpc-encoding", "identity"}});
  const int32_t damaged = pair.Call(Framed("nonsense", true), {{"grpc-encoding", "gzip"}});
  pair.Exchange();
  for (const int32_t stream : {gzip, deflate, plain}) pair.CheckAnswered(stream, std::string(5000, 'z'));
  pair.CheckStatus(unknown, "12", "grpc-encoding 'snappy' is not supported: use identity, deflate or gzip");
  CHECK_EQ(pair.client.streams[unknown].headers["grpc-accept-encoding"], "identity,deflate,gzip");
  for (const int32_t stream : {unnamed, identity}) {
    pair.CheckStatus(stream, "13", "a message is marked as compressed, but the call names no grpc-encoding for it");
  }
  CHECK(pair.client.streams[damaged].headers["grpc-status"] != "0");
}

TEST(Grpc, AMessageThatExpandsTooMuch) {
  GrpcPair pair(MakeOptions(10'000, 100));
  const std::string message = InferMessage(std::string(1'000'000, 'z'));
  const std::string packed(Compress(Compression::kGzip, {message})->view());
  const int32_t stream = pair.Call(Framed(packed, true), {{"grpc-encoding", "gzip"}});
  pair.Exchange();
  CHECK_EQ(pair.client.streams[stream].headers["grpc-status"], "8");
}

TEST(Grpc, LengthsThatLie) {
  GrpcPair pair(MakeOptions(1000, 100));
  std::string framed = Framed(std::string(1001, 'x'));
  const int32_t large = pair.client.Request(CallHeaders(kInfer), framed.substr(0, 20), true);
  const int32_t announced = pair.Call(std::string("\0\xFF\xFF\xFF\xFF", 5));
  const int32_t cut = pair.Call(framed.substr(0, 3));
  const int32_t none = pair.Call("");
  const int32_t half = pair.Call(Framed(InferMessage("abc")).substr(0, 20));
  const int32_t two = pair.Call(Framed(InferMessage("abc")) + Framed(InferMessage("def")));
  const int32_t more = pair.Call(Framed(InferMessage("abc")) + "x");
  pair.Exchange();
  pair.CheckStatus(large, "8", "Received message larger than max (1001 vs. 1000)");
  pair.CheckStatus(announced, "8", "Received message larger than max (4294967295 vs. 1000)");
  for (const int32_t stream : {cut, none, half}) {
    pair.CheckStatus(stream, "13", "the call ended before its message was complete");
  }
  for (const int32_t stream : {two, more}) pair.CheckStatus(stream, "13", "a unary call carries exactly one message");
  CHECK_EQ(pair.connection->in_flight(), size_t{0});
  const int32_t good = pair.Infer("ok");
  pair.Exchange();
  pair.CheckAnswered(good, "ok");
}

TEST(Grpc, Deadlines) {
  GrpcPair pair;
  pair.engine->answering = false;
  const int32_t late = pair.Infer("late", {{"grpc-timeout", "100n"}});
  const int32_t timely = pair.Infer("timely", {{"grpc-timeout", "1u"}});
  const int32_t never = pair.Infer("never", {{"grpc-timeout", "99999999H"}});
  const int32_t zero = pair.Infer("zero", {{"grpc-timeout", "0n"}});
  std::vector<int32_t> malformed;
  for (const char* text : {"", "1", "n", "-1S", "1x", "123456789n", "1 S", "+1S", "0x1S"}) {
    malformed.push_back(pair.Infer("x", {{"grpc-timeout", text}}));
  }
  pair.Exchange();
  pair.CheckStatus(zero, "4", "Deadline Exceeded");
  for (const int32_t stream : malformed) CHECK_EQ(pair.client.streams[stream].headers["grpc-status"], "13");
  CHECK_EQ(pair.mailbox->NextFlush(), TimeNs{1100});
  pair.engine->now = 1099;
  pair.Exchange();
  CHECK(!pair.client.streams[late].closed);
  pair.engine->now = 1100;
  pair.Exchange();
  pair.CheckStatus(late, "4", "Deadline Exceeded");
  CHECK_EQ(pair.engine->cancellations, 1);
  CHECK(pair.engine->held[0]->cancelled() && !pair.engine->held[1]->cancelled());
  pair.engine->answering = true;
  pair.Exchange();
  pair.CheckAnswered(timely, "timely");
  pair.CheckAnswered(never, "never");
  CHECK_EQ(pair.mailbox->NextFlush(), TimeNs{0});
}

TEST(Grpc, ADeadlineWhileTheMessageComes) {
  GrpcPair pair;
  const int32_t stream = pair.client.Request(CallHeaders(kInfer, {{"grpc-timeout", "5n"}}),
                                             Framed(InferMessage("abc")).substr(0, 9), true);
  pair.Exchange();
  pair.engine->now += 5;
  pair.Exchange();
  pair.CheckStatus(stream, "4", "Deadline Exceeded");
  CHECK_EQ(pair.mailbox->NextFlush(), TimeNs{0});
}

TEST(Grpc, AResetCancels) {
  GrpcPair pair;
  pair.engine->answering = false;
  const int32_t cancelled = pair.Infer("a", {{"grpc-timeout", "1S"}});
  const int32_t kept = pair.Infer("b");
  pair.Exchange();
  pair.client.Reset(cancelled);
  pair.Exchange();
  CHECK_EQ(pair.engine->cancellations, 1);
  CHECK(pair.engine->held[0]->cancelled() && !pair.engine->held[1]->cancelled());
  CHECK_EQ(pair.connection->in_flight(), size_t{1});
  CHECK_EQ(pair.mailbox->NextFlush(), TimeNs{0});
  pair.engine->answering = true;
  pair.Exchange();
  CHECK_EQ(pair.client.streams[cancelled].body, "");
  pair.CheckAnswered(kept, "b");
}

TEST(Grpc, CloseCancelsAll) {
  GrpcPair pair;
  pair.engine->answering = false;
  pair.Infer("a", {{"grpc-timeout", "1S"}});
  pair.Infer("b");
  pair.Call(Framed(""), {}, kLive);
  pair.Exchange();
  pair.connection->Close();
  pair.connection->Close();
  CHECK(pair.engine->held[0]->cancelled() && pair.engine->held[1]->cancelled());
  CHECK_EQ(pair.engine->cancellations, 1);
  CHECK_EQ(pair.mailbox->NextFlush(), TimeNs{0});
  CHECK(!pair.connection->has_events());
  pair.engine->AnswerAll();
  CHECK_EQ(pair.Flush(), "");
}

TEST(Grpc, ATimerDoesNotOutliveItsConnection) {
  GrpcPair pair;
  const auto options = std::make_shared<const GrpcConnection::Options>(MakeOptions());
  auto other = std::make_shared<GrpcConnection>(pair.mailbox, 10, options);
  testing::Http2Client client;
  client.Request(CallHeaders(kInfer, {{"grpc-timeout", "5n"}}), Framed(""), true);
  const std::string bytes = client.Written();
  other->Receive(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  other.reset();
  pair.engine->now += 5;
  pair.Flush();
  CHECK_EQ(pair.mailbox->NextFlush(), TimeNs{0});
}

TEST(Grpc, HeadersThatAreTooLarge) {
  GrpcPair pair;
  const int32_t stream = pair.Infer("a", {{"x-large", std::string(20'000, 'x')}});
  const int32_t good = pair.Infer("b", {{"x-small", std::string(10'000, 'x')}});
  pair.Exchange();
  pair.CheckStatus(stream, "8", "received metadata size exceeds the limit");
  pair.CheckAnswered(good, "b");
}

}  // namespace
}  // namespace pyinfer
