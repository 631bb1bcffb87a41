// SPDX-License-Identifier: Apache-2.0
// ModelStreamInfer over a connection: order, errors and ends.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grpc_stream_fixtures.h"
#include "wire/gzip.h"

namespace pyinfer {
namespace {

using namespace testing;  // NOLINT: all of its fixtures

TEST(GrpcStream, AnswersAsLongAsItIsAsked) {
  StreamPair pair;
  for (const char* text : {"one", "two", ""}) {
    pair.Ask(InferMessage(text, "m", text));
    pair.Exchange();
    CHECK_EQ(pair.Body(), Answer(text, "m", text));
    CHECK(!pair.closed());
  }
  CHECK_EQ(pair.connection->in_flight(), size_t{1});
  pair.Halfclose();
  pair.Exchange();
  pair.CheckStatus(pair.id, "0");
  CHECK_EQ(pair.client.resets, size_t{0});
  CHECK_EQ(pair.connection->in_flight(), size_t{0});
}

TEST(GrpcStream, NoRequestsAreNoError) {
  StreamPair pair;
  pair.Exchange();
  CHECK(!pair.closed());
  pair.Halfclose();
  pair.Exchange();
  pair.CheckStatus(pair.id, "0");
  CHECK_EQ(pair.Body(), "");
}

TEST(GrpcStream, AnswersLeaveInTheOrderOfTheirRequests) {
  StreamPair pair;
  pair.engine->answering = false;
  for (const char* text : {"a", "b", "c"}) pair.Ask(InferMessage(text));
  pair.Ask(InferMessage("", "none", "x"));
  pair.Ask(InferMessage("d"));
  pair.Exchange();
  for (const size_t last_first : {3, 2, 1}) {
    const RequestPtr request = pair.TakeHeld(last_first);
    request->Answer(Echo(*request));
    pair.Exchange();
    CHECK_EQ(pair.Body(), "");
  }
  const RequestPtr request = pair.TakeHeld();
  request->Answer(Echo(*request));
  pair.Exchange();
  CHECK(pair.Body() == Answer("a") + Answer("b") + Answer("c") + Refusal(kUnknownModel, "x") + Answer("d"));
}

TEST(GrpcStream, DecoupledResponsesLeaveAsTheyAreMade) {
  StreamPair pair;
  pair.engine->answering = false;
  pair.Ask(InferMessage("slow"));
  pair.Ask(InferMessage("1", "d", "first"));
  pair.Ask(InferMessage("2", "d", "second"));
  pair.Halfclose();
  pair.Exchange();
  const RequestPtr slow = pair.TakeHeld(), first = pair.TakeHeld(), second = pair.TakeHeld();
  first->Send(Echo(*first));
  second->Send(Echo(*second));
  first->Send(Echo(*first));
  pair.Exchange();
  CHECK(pair.Body() ==
        Answer("1", "d", "first", false) + Answer("1", "d", "first", false) + Answer("2", "d", "second", false));
  second->Send(Response::Error(Status::InvalidArg("no")));
  second->Answer(Echo(*second));
  first->Answer(Response::End());  // says nothing
  pair.Exchange();
  CHECK(pair.Body() == Framed(Field(1, "no") + Field(2, Field(1, "d") + Field(3, "second") + Final(false))) +
                           Answer("2", "d", "second"));
  CHECK(!pair.closed());
  slow->Answer(Echo(*slow));
  pair.Exchange();
  CHECK_EQ(pair.Body(), Answer("slow"));
  pair.CheckStatus(pair.id, "0");
}

TEST(GrpcStream, AnEmptyFinalResponseWhereItIsAskedFor) {
  StreamPair pair;
  pair.engine->answering = false;
  const std::string wish = Field(4, Field(1, "triton_enable_empty_final_response") + Field(2, Number(1, 1)));
  pair.Ask(InferMessage("1", "d", "id") + wish);
  pair.Ask(Field(2, "1") + InferMessage("1", "d") + wish);
  pair.Ask(InferMessage("2", "d") + wish);
  pair.Exchange();
  pair.TakeHeld()->Answer(Response::End());
  pair.TakeHeld()->Answer(Response::End());
  const RequestPtr last = pair.TakeHeld();
  last->Answer(Echo(*last));
  pair.Exchange();
  CHECK(pair.Body() == Framed(Field(2, Field(1, "d") + Field(3, "id") + Final(true))) +
                           Framed(Field(2, Field(1, "d") + Field(2, "1") + Final(true))) + Answer("2", "d"));
}

TEST(GrpcStream, AnErrorIsAResponse) {
  StreamPair pair;
  pair.Ask(InferMessage("", "none", "x"));
  pair.Ask(
      "\x0a\x05"
      "a");
  pair.Ask("");
  pair.Ask(InferMessage("fine"));
  pair.Exchange();
  CHECK(pair.Body() == Refusal(kUnknownModel, "x") +
                           Refusal("failed to parse the request: it is not a valid ModelInferRequest message") +
                           Refusal(kUnknownModel) + Answer("fine"));
  pair.engine->answering = false;
  pair.Ask(InferMessage("x", "m", "id"));
  pair.Exchange();
  pair.TakeHeld()->Fail(FailureReason::kBackend, Status::Internal("broken"));
  pair.Exchange();
  CHECK(pair.Body() == Framed(Field(1, "broken") + Field(2, Field(1, "m") + Field(3, "id") + Final(true))));
  CHECK(!pair.closed());
}

TEST(GrpcStream, AnErrorEndsTheStreamWhereTheClientWantsIt) {
  StreamPair pair(HeaderList{{"triton_grpc_error", "true"}});
  pair.engine->answering = false;
  for (const char* text : {"a", "b", "c"}) pair.Ask(InferMessage(text));
  pair.Exchange();
  pair.TakeHeld(1)->Fail(FailureReason::kBackend, Status::InvalidArg("bad luck"));
  pair.Exchange();
  CHECK(!pair.closed());  // what comes first is sent first
  const RequestPtr first = pair.TakeHeld();
  first->Answer(Echo(*first));
  pair.Exchange();
  CHECK_EQ(pair.Body(), Answer("a"));
  pair.CheckStatus(pair.id, "3", "bad luck");
  CHECK_EQ(pair.client.streams[pair.id].error, uint32_t{NGHTTP2_NO_ERROR});
  CHECK(pair.engine->held[0]->cancelled());
  CHECK_EQ(pair.engine->cancellations, 1);
  pair.engine->AnswerAll();
  pair.Exchange();
  CHECK_EQ(pair.Body(), "");
}

TEST(GrpcStream, OtherValuesOfThatHeaderMeanNothing) {
  for (const char* value : {"True", "1", "false", ""}) {
    StreamPair pair(HeaderList{{"triton_grpc_error", value}});
    pair.Ask(InferMessage("", "none"));
    pair.Exchange();
    CHECK_EQ(pair.Body(), Refusal(kUnknownModel));
    CHECK(!pair.closed());
  }
}

TEST(GrpcStream, AResetCancelsAll) {
  StreamPair pair;
  pair.engine->answering = false;
  pair.Ask(InferMessage("a"));
  pair.Ask(InferMessage("b", "d"));
  pair.Exchange();
  pair.client.Reset(pair.id);
  pair.Exchange();
  CHECK(pair.engine->held[0]->cancelled() && pair.engine->held[1]->cancelled());
  CHECK_EQ(pair.engine->cancellations, 1);
  const RequestPtr ordered = pair.TakeHeld(), decoupled = pair.TakeHeld();
  decoupled->Send(Echo(*decoupled));
  ordered->Answer(Echo(*ordered));
  decoupled->Answer(Response::End());
  pair.Exchange();
  CHECK_EQ(pair.Body(), "");
}

TEST(GrpcStream, ADeadlineCancelsAll) {
  StreamPair pair(HeaderList{{"grpc-timeout", "5n"}});
  pair.engine->answering = false;
  pair.Ask(InferMessage("a"));
  pair.Ask(InferMessage("b", "d"));
  pair.Exchange();
  const RequestPtr decoupled = pair.TakeHeld(1);
  decoupled->Send(Echo(*decoupled));
  pair.Exchange();
  CHECK_EQ(pair.Body(), Answer("b", "d", "", false));
  pair.engine->now += 5;
  pair.Exchange();
  pair.CheckStatus(pair.id, "4", "Deadline Exceeded");
  CHECK(pair.engine->held[0]->cancelled() && decoupled->cancelled());
  decoupled->Answer(Response::End());
}

TEST(GrpcStream, ALostConnectionCancelsAll) {
  StreamPair pair;
  pair.engine->answering = false;
  pair.Ask(InferMessage("a"));
  pair.Ask(InferMessage("b", "d"));
  pair.Exchange();
  pair.connection->Close();
  CHECK(pair.engine->held[0]->cancelled() && pair.engine->held[1]->cancelled());
  pair.engine->AnswerAll();
  CHECK_EQ(pair.Flush(), "");
}

TEST(GrpcStream, WhatIsMalformedEndsTheStream) {
  struct Case {
    std::string bytes;
    const char* status;
    const char* message;
  };
  const Case cases[] = {
      {std::string("\0\0", 2), "13", "the call ended before its message was complete"},
      {Framed(InferMessage("abc")).substr(0, 20), "13", "the call ended before its message was complete"},
      {std::string("\0\xFF\xFF\xFF\xFF", 5), "8", "Received message larger than max (4294967295 vs. 1000)"},
      {Framed(InferMessage("abc"), true), "13",
       "a message is marked as compressed, but the call names no grpc-encoding for it"},
      {std::string("\2\0\0\0\0", 5), "13",
       "a message is marked as compressed, but the call names no grpc-encoding for it"},
  };
  for (const Case& one : cases) {
    StreamPair pair({}, MakeOptions(1000));
    pair.Ask(InferMessage("first"));
    pair.Exchange();
    CHECK_EQ(pair.Body(), Answer("first"));
    pair.client.SendMore(pair.id, one.bytes);
    pair.Halfclose();
    pair.Exchange();
    pair.CheckStatus(pair.id, one.status, one.message);
  }
}

TEST(GrpcStream, ADamagedMessageEndsTheStreamAndWhatItDoes) {
  StreamPair pair(HeaderList{{"grpc-encoding", "gzip"}});
  pair.engine->answering = false;
  pair.Ask(InferMessage("a"));
  pair.client.SendMore(pair.id, Framed("nonsense", true));
  pair.Ask(InferMessage("never looked at"));
  pair.Exchange();
  pair.CheckStatus(pair.id, "3", "failed to decompress: the compressed data is damaged");
  CHECK_EQ(pair.engine->held.size(), size_t{1});
  CHECK(pair.engine->held[0]->cancelled());
}

TEST(GrpcStream, CompressesEachMessage) {
  GrpcConnection::Options options = MakeOptions();
  options.compression_level = CompressionLevel::kLow;
  StreamPair pair({{"grpc-encoding", "deflate"}, {"grpc-accept-encoding", "identity,deflate,gzip"}}, options);
  const std::string data(5000, 'z');
  const std::string message = InferMessage(data);
  pair.client.SendMore(pair.id, Framed(Compress(Compression::kDeflate, {message})->view(), true) + Framed(message));
  pair.Ask(InferMessage("tiny"));
  pair.Exchange();
  CHECK_EQ(pair.client.streams[pair.id].headers["grpc-encoding"], "gzip");
  const std::string packed =
      Framed(Compress(Compression::kGzip, {std::string_view(Answer(data)).substr(5)})->view(), true);
  CHECK(pair.Body() == packed + packed + Answer("tiny"));
}

TEST(GrpcStream, SplitAnywhere) {
  std::string whole;
  {
    testing::Http2Client client;
    const int32_t id = client.Request(CallHeaders(kStreamInfer), "", true);
    whole = client.Written();
    client.SendMore(id, Framed(InferMessage("hello")) + Framed(InferMessage("", "none")) + Framed(InferMessage("end")));
    client.FinishSending(id);
    whole += client.Written();
  }
  const std::string expected = Answer("hello") + Refusal(kUnknownModel) + Answer("end");
  for (size_t cut = 1; cut < whole.size(); ++cut) {
    GrpcPair pair;
    pair.client.Request(CallHeaders(kStreamInfer), "", true);
    pair.client.Written();
    pair.Deliver(std::string_view(whole).substr(0, cut));
    pair.client.Receive(pair.Flush());
    pair.Deliver(std::string_view(whole).substr(cut));
    for (int i = 0; i < 3; ++i) pair.client.Receive(pair.Flush());
    CHECK(pair.client.streams[1].body == expected);
    CHECK_EQ(pair.client.streams[1].headers["grpc-status"], "0");
  }
}

TEST(GrpcStream, TheServerStops) {
  StreamPair pair;
  pair.engine->answering = false;
  pair.Ask(InferMessage("a"));
  const int32_t idle = pair.client.Request(CallHeaders(kStreamInfer), "", true);
  pair.Exchange();
  pair.connection->Drain();
  pair.Ask(InferMessage("too late"));
  pair.Exchange();
  const char* kStopping = "GRPC server is shutting down and has stopped accepting new requests.";
  pair.CheckStatus(idle, "14", kStopping);
  CHECK(!pair.closed() && !pair.GrpcPair::closed);
  pair.engine->answering = true;
  pair.Exchange();
  CHECK_EQ(pair.Body(), Answer("a"));
  pair.CheckStatus(pair.id, "14", kStopping);
  CHECK(pair.GrpcPair::closed);
}

TEST(GrpcStream, TheServerStopsAfterTheClientDid) {
  StreamPair pair;
  pair.engine->answering = false;
  pair.Ask(InferMessage("a"));
  pair.Halfclose();
  pair.Exchange();
  pair.connection->Drain();
  pair.engine->answering = true;
  pair.Exchange();
  CHECK_EQ(pair.Body(), Answer("a"));
  pair.CheckStatus(pair.id, "0");
}

TEST(GrpcStream, AnyByteMayBeWrong) {
  testing::Http2Client client;
  const int32_t id = client.Request(CallHeaders(kStreamInfer), "", true);
  std::string whole = client.Written();
  client.SendMore(id, Framed(InferMessage("hello")) + Framed(InferMessage("there", "d")));
  whole += client.Written();
  testing::DeliverWithEachByteWrong(whole);
}

}  // namespace
}  // namespace pyinfer
