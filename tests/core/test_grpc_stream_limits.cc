// SPDX-License-Identifier: Apache-2.0
// What one call of ModelStreamInfer may hold.
#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grpc_stream_fixtures.h"

namespace pyinfer {
namespace {

using namespace testing;  // NOLINT: all of its fixtures

TEST(GrpcStream, RequestsThatNobodyAnswersAreNotReadForEver) {
  StreamPair pair({}, MakeOptions(1 << 26, 1000));
  pair.engine->answering = false;
  const std::string request = Framed(InferMessage(std::string(100, 'x')));
  constexpr size_t kRequests = 100'000;
  std::string all;
  for (size_t i = 0; i < kRequests; ++i) all += request;
  pair.client.SendMore(pair.id, all);
  pair.Exchange();
  CHECK_EQ(pair.engine->held.size(), size_t{1024});
  // What the window lets in is held, and the rest is the client's to keep.
  CHECK(pair.client.streams[pair.id].left() > kRequests * request.size() - (size_t{9} << 20));
  pair.Halfclose();
  std::string expected;
  for (size_t i = 0; i < kRequests; ++i) expected += Answer(std::string(100, 'x'));
  size_t most = 0;
  std::string body;
  while (!pair.closed()) {
    most = std::max(most, pair.engine->held.size());
    pair.engine->AnswerAll();
    pair.Exchange();
    body += pair.Body();
  }
  CHECK_EQ(most, size_t{1024});
  CHECK(body == expected);
  pair.CheckStatus(pair.id, "0");
}

TEST(GrpcStream, AnswersThatNobodyTakesHoldUpTheRequests) {
  StreamPair pair({}, MakeOptions(), 1000);
  const std::string request = Framed(InferMessage(std::string(size_t{1} << 20, 'x')));
  std::string all;
  for (int i = 0; i < 100; ++i) all += request;
  pair.client.SendMore(pair.id, all);
  pair.Halfclose();
  pair.Exchange();
  CHECK(pair.connection->unsent() <= size_t{66} << 20);
  CHECK(pair.client.streams[pair.id].left() != 0);
  // Another call of the connection goes on meanwhile.
  const int32_t other = pair.Infer("quick");
  pair.Exchange();
  pair.CheckAnswered(other, "quick");
  size_t received = 0;
  while (!pair.closed()) {
    const size_t now = pair.Body().size();
    received += now;
    pair.client.Allow(pair.id, now);
    pair.Exchange();
  }
  CHECK_EQ(received + pair.Body().size(), 100 * Answer(std::string(size_t{1} << 20, 'x')).size());
  pair.CheckStatus(pair.id, "0");
}

TEST(GrpcStream, LargeRequestsAreHeldUpBeforeTheyAreMany) {
  StreamPair pair;
  pair.engine->answering = false;
  const std::string request = Framed(InferMessage(std::string(size_t{5} << 20, 'x')));
  std::string all;
  for (int i = 0; i < 20; ++i) all += request;
  pair.client.SendMore(pair.id, all);
  pair.Exchange();
  CHECK_EQ(pair.engine->held.size(), size_t{13});  // 64 MiB
}

TEST(GrpcStream, StreamsShareWhatTheirConnectionMayHold) {
  StreamPair pair({}, MakeOptions(1 << 26, 10));
  pair.engine->answering = false;
  const int32_t other = pair.client.Request(CallHeaders(kStreamInfer), "", true);
  for (int i = 0; i < 100; ++i) {
    pair.Ask(InferMessage("a"));
    pair.client.SendMore(other, Framed(InferMessage("b")));
  }
  pair.Exchange();
  CHECK_EQ(pair.engine->held.size(), size_t{20});
  pair.Halfclose();
  pair.client.FinishSending(other);
  pair.engine->answering = true;
  pair.Exchange();
  pair.CheckStatus(pair.id, "0");
  pair.CheckStatus(other, "0");
  CHECK_EQ(pair.Body().size(), 100 * Answer("a").size());
  CHECK_EQ(pair.client.streams[other].body.size(), 100 * Answer("b").size());
}

TEST(GrpcStream, AModelThatNeverStopsIsCutOffFromAClientThatNeverReads) {
  StreamPair pair({}, MakeOptions(), 1000);
  pair.engine->answering = false;
  pair.Ask(InferMessage(std::string(size_t{8} << 20, 'x'), "d"));
  pair.Exchange();
  const RequestPtr request = pair.TakeHeld();
  size_t sent = 0;
  while (!request->cancelled()) {
    request->Send(Echo(*request));
    pair.Exchange();
    ++sent;
    CHECK(sent < 100);
  }
  CHECK(pair.connection->unsent() < size_t{10} << 20);  // of the message that the client has a part of
  CHECK_EQ(pair.connection->in_flight(), size_t{0});
  request->Answer(Response::End());
  while (!pair.closed()) {
    pair.client.Allow(pair.id, pair.Body().size());
    pair.Exchange();
  }
  CHECK_EQ(pair.Status(), "8");
  CHECK(pair.Message().find("the client does not read its responses: 2684") == 0);
}

TEST(GrpcStream, ClientsThatDoNotReadShareTheMemoryOfAServer) {
  StreamPair pair({}, MakeOptions(), 1000);
  pair.engine->answering = false;
  pair.Ask(InferMessage(std::string(size_t{1} << 20, 'x'), "d"));
  pair.Exchange();
  const RequestPtr request = pair.TakeHeld();
  for (int i = 0; i < 20; ++i) request->Send(Echo(*request));
  pair.Exchange();
  // What one leaves is counted for all, also while its transport takes nothing.
  CHECK_EQ(pair.mailbox->untaken, pair.connection->unsent());
  pair.connection->Pause();
  request->Send(Echo(*request));
  pair.Exchange();
  CHECK(pair.connection->unsent() > size_t{20} << 20);
  CHECK_EQ(pair.mailbox->untaken, pair.connection->unsent());
  pair.connection->Resume();
  CHECK(!request->cancelled());
  // Others have nearly all of it: this one, which has more than its share by now, is cut off.
  const size_t others = size_t{990} << 20;
  pair.mailbox->untaken += others;
  request->Send(Echo(*request));
  pair.Exchange();
  CHECK(request->cancelled());
  // And of a call that begins now no more is read once a 64th of 64 MiB waits to be taken.
  const int32_t other = pair.client.Request(CallHeaders(kStreamInfer), "", true);
  pair.mailbox->untaken += size_t{100} << 20;
  const std::string next = Framed(InferMessage(std::string(size_t{2} << 20, 'x')));
  pair.client.SendMore(other, next);
  pair.Exchange();
  const RequestPtr first = pair.TakeHeld();
  first->Answer(Echo(*first));
  pair.Exchange();
  pair.client.SendMore(other, next + next);
  pair.Exchange();
  CHECK(pair.engine->held.empty());
  pair.mailbox->untaken -= others + (size_t{100} << 20);
  request->Answer(Response::End());
  pair.connection->Close();
  CHECK_EQ(pair.mailbox->untaken, size_t{0});
}

TEST(GrpcStream, AnEndThatNeedsNoWindow) {
  // The client has given room for nothing, or just for the first answer: the end is told all the same.
  for (const size_t room : {size_t{0}, Answer("x", "d", "", false).size()}) {
    StreamPair pair(HeaderList{{"grpc-timeout", "5n"}}, MakeOptions(), static_cast<int32_t>(room));
    pair.engine->answering = false;
    pair.Ask(InferMessage("x", "d"));
    pair.Exchange();
    const RequestPtr request = pair.TakeHeld();
    for (int i = 0; i < 3; ++i) request->Send(Echo(*request));
    pair.Exchange();
    CHECK_EQ(pair.Body().size(), room);
    pair.engine->now += 5;
    pair.Exchange();
    pair.CheckStatus(pair.id, "4", "Deadline Exceeded");
    CHECK_EQ(pair.connection->unsent(), size_t{0});
    request->Answer(Response::End());
  }
}

TEST(GrpcStream, AnEndBehindTheLastByteOfTheWindow) {
  StreamPair pair({}, MakeOptions(), static_cast<int32_t>(Answer("x").size()));
  pair.Ask(InferMessage("x"));
  pair.Exchange();
  CHECK_EQ(pair.Body(), Answer("x"));
  pair.Halfclose();
  pair.Exchange();
  pair.CheckStatus(pair.id, "0");
}

TEST(GrpcStream, WhatIsPromisedIsSent) {
  // More than one flush hands out: the rest of a part is in the library's hands when the deadline passes.
  StreamPair pair(HeaderList{{"grpc-timeout", "5n"}}, MakeOptions(), 1 << 30);
  pair.client.AllowOnConnection(1 << 30);
  pair.Exchange();
  pair.engine->answering = false;
  for (int i = 0; i < 3; ++i) pair.Ask(InferMessage(std::string(size_t{1} << 20, 'x'), "d"));
  pair.Exchange();
  std::vector<RequestPtr> requests = std::exchange(pair.engine->held, {});
  for (const RequestPtr& request : requests) {
    for (int i = 0; i < 4; ++i) request->Send(Echo(*request));
  }
  const std::string first = pair.Flush();
  CHECK(first.size() > Connection::kWriteLimit && pair.connection->unsent() > Connection::kWriteLimit);
  pair.client.Receive(first);
  pair.engine->now += 5;
  for (int i = 0; i < 100 && !pair.closed(); ++i) {
    pair.client.Allow(pair.id, pair.Body().size());
    pair.Exchange();
  }
  CHECK_EQ(pair.Status(), "4");
  for (const RequestPtr& request : requests) request->Answer(Response::End());
}

TEST(GrpcStream, AResetGivesBackWhatWasHeld) {
  StreamPair pair({}, MakeOptions(1 << 26, 1000));
  pair.engine->answering = false;
  std::string all;
  for (int i = 0; i < 1024; ++i) all += Framed(InferMessage("x"));
  all += std::string(size_t{9} << 20, 'x');
  for (int round = 0; round < 8; ++round) {
    // Each of them is held up with about 8 MiB; if those were not given back, the connection would stand still.
    const int32_t stream = pair.client.Request(CallHeaders(kStreamInfer), "", true);
    pair.client.SendMore(stream, all);
    pair.Exchange();
    CHECK(pair.client.streams[stream].left() != 0);
    pair.client.Reset(stream);
    pair.Exchange();
    pair.engine->AnswerAll();
  }
  pair.engine->answering = true;
  const int32_t large = pair.Infer(std::string(size_t{40} << 20, 'x'));
  pair.Exchange();
  CHECK_EQ(pair.client.streams[large].left(), size_t{0});
}

}  // namespace
}  // namespace pyinfer
