// SPDX-License-Identifier: Apache-2.0
// Streamed answers of an HTTP connection: their form, their order among others, and cancellation.
#include <thread>

#include "http_generate_fixtures.h"

namespace pyinfer {
namespace {

using namespace testing;

TEST(HttpGenerate, EachResponseIsAnEventAtOnce) {
  GenerateClient client;
  client.Generate();
  CHECK_EQ(client.Received(), "");
  const RequestPtr request = client.Held();
  CHECK(request->transport == Transport::kHttp);
  request->Send(Bytes("a"));
  CHECK_EQ(client.Received(), kHead + Event("97"));
  request->Send(Bytes("bc"));
  request->Send(Bytes(""));
  CHECK_EQ(client.Received(), Event("[98,99]") + Event("[]"));
  CHECK_EQ(client.connection->in_flight(), size_t{1});
  request->Answer(Response::End());
  CHECK_EQ(client.Received(), kEnd);
  CHECK_EQ(client.connection->in_flight(), size_t{0});
  CHECK(!client.closed);
}

TEST(HttpGenerate, AResponseCanBeTheLast) {
  GenerateClient client;
  client.Generate();
  client.Held()->Answer(Bytes("a"));
  CHECK_EQ(client.Received(), kHead + Event("97") + kEnd);
  client.Generate(Kind::kGenerateStream, "m");
  client.engine->AnswerAll();
  CHECK_EQ(client.Received(), kHead + Event("7", "m") + kEnd);
}

TEST(HttpGenerate, AStreamMayBeEmpty) {
  GenerateClient client;
  client.Generate();
  client.Held()->Answer(Response::End());
  CHECK_EQ(client.Received(), kHead + kEnd);
}

TEST(HttpGenerate, TheFirstResponseDecidesTheStatus) {
  GenerateClient client;
  client.Generate();
  RequestPtr request = client.Held();
  request->Send(Response::Error(Status::NotFound("no")));
  request->Send(Bytes("a"));
  request->Answer(Response::Error(Status::Internal("late")));
  CHECK_EQ(client.Received(), kErrorHead + ErrorEvent("no") + Event("97") + ErrorEvent("late") + kEnd);
  client.Generate();
  request = client.Held();
  request->Send(Bytes("a"));
  request->Answer(Response::Error(Status::NotFound("no")));
  CHECK_EQ(client.Received(), kHead + Event("97") + ErrorEvent("no") + kEnd);
}

TEST(HttpGenerate, ErrorsBeforeTheModelBeganAreAnswersLikeOthers) {
  for (const Kind kind : {Kind::kGenerate, Kind::kGenerateStream}) {
    GenerateClient client;
    client.Generate(kind, "d", "x");
    CHECK(Contains(client.Received(), "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"));
    client.Generate(kind, "none");
    CHECK(Contains(client.Received(), "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n"));
    client.Generate(kind, "d", "{}");  // refused by validation

    CHECK(Contains(client.Received(), "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"));
    client.Generate(kind);
    const RequestPtr request = client.Held();
    request->timeline.picked = 0;
    request->Fail(FailureReason::kRejected, Status::Unavailable("Request timeout expired"));
    CHECK_EQ(client.Received(), Json(503, "{\"error\":\"Request timeout expired\"}"));
    HttpConnection::InferCall call;
    call.model = "d";
    call.kind = kind;
    call.content_encoding = "gzip";
    client.Start(call);
    CHECK_EQ(client.Received(),
             Json(400, "{\"error\":\"Unsupported content-encoding, only 'identity' is supported.\"}"));
    CHECK_EQ(client.connection->in_flight(), size_t{0});
    CHECK(!client.closed);
  }
}

TEST(HttpGenerate, GenerateWantsExactlyOneResponse) {
  GenerateClient client;
  const auto answer = [&client](std::vector<Response> responses, Response last) {
    client.Generate(Kind::kGenerate);
    const RequestPtr request = client.Held();
    for (Response& response : responses) request->Send(std::move(response));
    CHECK_EQ(client.Received(), "");
    request->Answer(std::move(last));
    return client.Received();
  };
  std::vector<Response> one, two, bad;
  const std::string good = R"({"X":97,"model_name":"d","model_version":"1"})";
  CHECK_EQ(answer({}, Bytes("a")), Json(200, good));
  one.push_back(Bytes("a"));
  CHECK_EQ(answer(std::move(one), Response::End()), Json(200, good));
  CHECK_EQ(answer({}, Response::End()), Json(200, kNotOne));
  two.push_back(Bytes("a"));
  two.push_back(Bytes("b"));
  CHECK_EQ(answer(std::move(two), Bytes("c")), Json(200, kNotOne));
  CHECK_EQ(answer({}, Response::Error(Status::NotFound("no"))), Json(400, R"({"error":"no"})"));
  bad.push_back(Response::Error(Status::NotFound("no")));
  CHECK_EQ(answer(std::move(bad), Bytes("a")), Json(400, kNotOne));
}

TEST(HttpGenerate, LargeBodiesAndHeadersLikeThoseOfInfer) {
  GenerateClient client;
  HttpConnection::InferCall call;
  call.model = "d";
  call.kind = Kind::kGenerate;
  call.header_length = "3";  // means nothing here
  call.accept_encoding = "gzip";
  call.forwarded = {{"x-a", std::string("1")}};
  CHECK(client.connection->Append(std::string(kBody) + std::string(300000, ' ')));
  auto job = client.connection->Infer(call);
  CHECK(job != nullptr);
  std::thread([&job] { job->Run(true); }).join();
  RequestPtr request = client.Held();
  CHECK(request->parameters == call.forwarded);
  request->Answer(Bytes("a"));
  CHECK(Contains(client.Received(), "\r\n\r\n{\"X\":97,"));
}

TEST(HttpGenerate, AnswersKeepTheOrderOfTheRequests) {
  GenerateClient client;
  client.Infer(Client::Json(1));
  client.Generate();
  const uint64_t control = client.connection->Open();
  client.Generate();
  client.connection->Respond(control, 200, "control", {}, true);
  RequestPtr infer = client.Held(), first = client.Held(), second = client.Held();
  second->Send(Bytes("z"));
  first->Send(Bytes("a"));
  CHECK_EQ(client.Received(), "");
  infer->Answer(Bytes("x"));
  CHECK(Contains(client.received + client.Received(), kHead + Event("97")));
  second->Answer(Response::End());
  CHECK_EQ(client.Received(), "");
  first->Send(Bytes("b"));
  CHECK_EQ(client.Received(), Event("98"));
  first->Answer(Response::End());
  const std::string rest = client.Received();
  CHECK_EQ(rest.find(kEnd + "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncontrol"), size_t{0});
  CHECK(Contains(rest, "control" + kHead + Event("122") + kEnd));
  CHECK_EQ(client.connection->in_flight(), size_t{0});
}

TEST(HttpGenerate, FromOtherThreadsInOrder) {
  GenerateClient client;
  client.Generate();
  std::string expected = kHead, received;
  for (int i = 0; i < 1000; ++i) expected += Event(std::to_string(i % 256));
  std::thread model([request = client.Held()] {
    for (int i = 0; i < 1000; ++i) request->Send(Bytes(std::string(1, static_cast<char>(i))));
    request->Answer(Response::End());
  });
  while (received.size() < expected.size() + kEnd.size()) received += client.Received();
  model.join();
  CHECK(received == expected + kEnd);
}

TEST(HttpGenerate, WithoutChunksTheAnswerEndsWithTheConnection) {
  GenerateClient client;
  HttpConnection::InferCall call;
  call.model = "d";
  call.kind = Kind::kGenerateStream;
  call.chunked = false;
  call.keep_alive = false;
  client.Start(call);
  const RequestPtr request = client.Held();
  request->Send(Bytes("a"));
  CHECK_EQ(client.Received(),
           "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n"
           "data: {\"X\":97,\"model_name\":\"d\",\"model_version\":\"1\"}\n\n");
  CHECK(!client.closed);
  request->Answer(Response::End());
  CHECK_EQ(client.Received(), "");
  CHECK(client.closed);
}

TEST(HttpGenerate, TheConnectionClosesAfterTheLastAnswer) {
  GenerateClient client;
  HttpConnection::InferCall call;
  call.model = "d";
  call.kind = Kind::kGenerateStream;
  call.keep_alive = false;
  client.Start(call);
  client.Held()->Answer(Bytes("a"));
  const std::string answer = client.Received();
  CHECK(Contains(answer, "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + Event("97") + kEnd));
  CHECK(client.closed);
}

TEST(HttpGenerate, ALostConnectionCancels) {
  GenerateClient client;
  client.Generate();
  client.Generate(Kind::kGenerate);
  RequestPtr stream = client.Held(), whole = client.Held();
  stream->Send(Bytes("a"));
  client.Received();
  CHECK(!stream->cancelled() && !whole->cancelled());
  client.connection->Close();
  CHECK(stream->cancelled() && whole->cancelled());
  CHECK_EQ(client.engine->cancellations, 1);
  stream->Send(Bytes("b"));
  stream->Answer(Response::End());
  whole->Answer(Bytes("c"));
  CHECK_EQ(client.Received(), "");
  stream.reset();
  whole.reset();
  const std::weak_ptr<HttpConnection> connection = client.connection;
  client.connection.reset();
  CHECK(connection.expired());
}

TEST(HttpGenerate, AClientThatHangsUpIsSentNoMoreEvents) {
  GenerateClient client;
  client.Infer(Client::Json(1));
  client.Generate();
  client.Infer(Client::Json(2));
  RequestPtr infer = client.Held(), stream = client.Held(), behind = client.Held();
  stream->Send(Bytes("a"));
  client.Received();
  client.connection->HangUp();
  client.connection->HangUp();
  CHECK(stream->cancelled());
  CHECK_EQ(client.engine->cancellations, 1);
  CHECK(!infer->cancelled());
  stream->Send(Bytes("b"));
  CHECK_EQ(client.Received(), "");
  infer->Answer(Bytes("x"));  // is owed all the same
  const std::string answers = client.Received();
  CHECK(Contains(answers, "\"data\":[120]"));
  CHECK(!Contains(answers, "98"));
  CHECK(client.closed);
  CHECK(behind->cancelled());
  stream->Answer(Response::End());
}

TEST(HttpGenerate, NothingIsHandedOutWhilePaused) {
  GenerateClient client;
  client.Generate();
  const RequestPtr request = client.Held();
  client.connection->Pause();
  request->Send(Bytes("a"));
  CHECK_EQ(client.Received(), "");
  client.connection->Resume();
  CHECK_EQ(client.Received(), kHead + Event("97"));
  client.connection->Pause();
  request->Send(Bytes(std::string(1, '\1')));
  request->Answer(Response::End());
  CHECK_EQ(client.Received(), "");
  client.connection->Resume();
  CHECK_EQ(client.Received(), Event("1") + kEnd);
}

}  // namespace
}  // namespace pyinfer
