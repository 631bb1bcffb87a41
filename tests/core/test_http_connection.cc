// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include "http_fixtures.h"
#include "protocol/known_heads.h"

namespace pyinfer {
namespace {

using namespace testing;

TEST(HttpConnection, AnswersARequest) {
  Client client;
  CHECK(client.Infer(Client::Json(7)) == nullptr);
  CHECK_EQ(client.connection->in_flight(), size_t{1});
  client.Flush();
  CHECK(Contains(client.received, "HTTP/1.1 200 OK\r\n"));
  CHECK(Contains(client.received, "\"data\":[7]"));
  CHECK_EQ(client.connection->in_flight(), size_t{0});
  CHECK(!client.closed);
}

TEST(HttpConnection, AnswersInOrder) {
  Client client;
  client.engine->answering = false;
  client.Infer(Client::Json(1));
  const uint64_t control = client.connection->Open();
  client.Infer("{");
  client.Infer(Client::Json(2));
  client.connection->Respond(control, 200, "control", {{"X-Y", "a\r\nb"}}, true);
  CHECK_EQ(client.Flush(), size_t{0});
  client.engine->answering = true;
  client.Flush();
  const std::string all = client.Take();
  const size_t first = all.find("\"data\":[1]");
  const size_t second = all.find("X-Y: a  b\r\nContent-Length: 7\r\n\r\ncontrol");
  const size_t third = all.find("HTTP/1.1 400 Bad Request");
  const size_t fourth = all.find("\"data\":[2]");
  CHECK(first < second && second < third && third < fourth && fourth != std::string::npos);
}

TEST(HttpConnection, AnswersFromOtherThreads) {
  Client client;
  client.engine->answering = false;
  for (int i = 0; i < 100; ++i) client.Infer(Client::Json(i));
  client.Flush();
  std::thread([&client] { client.engine->AnswerAll(); }).join();
  client.Flush();
  size_t at = 0;
  for (int i = 0; i < 100; ++i) {
    at = client.received.find("\"data\":[" + std::to_string(i) + "]", at);
    CHECK(at != std::string::npos);
  }
}

TEST(HttpConnection, RefusesBeforeReading) {
  Client client;
  HttpConnection::InferCall call = Client::Call();
  call.model = "none";
  client.Infer("not read", call);
  client.Flush();
  CHECK(Contains(client.Take(), "HTTP/1.1 404 Not Found"));
  call = Client::Call();
  call.version = "99999999999999999999";
  client.Infer(Client::Json(1), call);
  client.Flush();
  CHECK(Contains(client.Take(), "HTTP/1.1 40"));
  call = Client::Call();
  call.content_encoding = "br";
  client.Infer(Client::Json(1), call);
  client.Flush();
  CHECK(Contains(client.received, "HTTP/1.1 415 Unsupported Media Type\r\nAccept-Encoding: gzip, deflate\r\n"));
  CHECK(Contains(client.Take(), "{\"error\":\"Unsupported compression type\"}"));
  client.Infer(Client::Json(1));
  client.Flush();
  CHECK(Contains(client.Take(), "HTTP/1.1 200 OK"));
}

TEST(HttpConnection, TakesRequestsWithKnownHeads) {
  Client client;
  KnownHeads known(2);
  const std::string body = Client::Json(7);
  const auto add = [&](const std::string& bytes, const HttpConnection::InferCall& call, size_t length) {
    known.Add(bytes, std::make_shared<HttpConnection::InferHead>(call), length);
  };
  add("a\r\n\r\n", Client::Call(), body.size());
  const std::string whole = "a\r\n\r\n" + body;
  CHECK_EQ(client.connection->Take(known, whole + whole + "b\r\n\r\n" + body), 2 * whole.size());
  for (const std::string& rest : {std::string(), std::string("a\r\n\r"), whole.substr(0, whole.size() - 1)}) {
    CHECK_EQ(client.connection->Take(known, rest), size_t{0});
    CHECK_EQ(client.connection->Take(known, whole + rest), whole.size());
  }
  CHECK_EQ(client.connection->in_flight(), size_t{5});
  client.Flush();
  CHECK_EQ(client.connection->in_flight(), size_t{0});
  CHECK(Contains(client.Take(), "\"data\":[7]"));
  // What needs a closer look is not kept.
  HttpConnection::InferCall call = Client::Call();
  call.keep_alive = false;
  add("b\r\n\r\n", call, body.size());
  call = Client::Call();
  call.content_encoding = "gzip";
  add("b\r\n\r\n", call, body.size());
  CHECK(known.Find("b\r\n\r\n") == nullptr);
}

TEST(KnownHeads, AreBounded) {
  KnownHeads known(2);
  const auto head = std::make_shared<HttpConnection::InferHead>(Client::Call());
  for (const char* name : {"a", "b", "c"}) known.Add(name, head, 1);
  CHECK(known.Find("a") != nullptr);  // of the older generation, and now of the younger
  known.Add("d", head, 1);
  known.Add("a", head, 2);
  CHECK_EQ(known.Find("a")->length, size_t{1});
  CHECK(known.Find("b") == nullptr);
  for (int i = 0; i < 100; ++i) known.Add(std::to_string(i), head, 1);
  size_t kept = 0;
  for (int i = 0; i < 100; ++i) kept += known.Find(std::to_string(i)) != nullptr ? 1 : 0;
  CHECK(kept >= 2 && kept <= 4);
  CHECK(known.Find("a") == nullptr);
}

TEST(HttpConnection, HeadersBecomeParameters) {
  Client client;
  client.engine->answering = false;
  HttpConnection::InferCall call = Client::Call();
  call.forwarded = {{"x-a", std::string("1")}, {"x-a", std::string("2")}};
  client.Infer(R"({"parameters":{"x-a":"body"},)" + Client::Json(1).substr(1), call);
  auto job = client.Infer(Client::Json(1) + std::string(300000, ' '), call);
  job->Run(false);
  const Parameters expected = {{"x-a", std::string("body")}, {"x-a", std::string("1")}, {"x-a", std::string("2")}};
  CHECK(client.engine->held.at(0)->parameters == expected);
  CHECK(client.engine->held.at(1)->parameters == call.forwarded);
  client.engine->AnswerAll();
  client.Flush();
  client.Take();
  call.refusal = "not this header";
  client.Infer(Client::Json(1), call);
  CHECK(client.engine->held.empty());
  client.Flush();
  CHECK(Contains(client.Take(), "HTTP/1.1 400 Bad Request"));
  call.model = "none";
  client.Infer(Client::Json(1), call);
  client.Flush();
  CHECK(Contains(client.Take(), "HTTP/1.1 404 Not Found"));
}

TEST(HttpConnection, ReadsCompressedBodies) {
  Client client(HttpConnection::Options{1000, 100000});
  const std::string json = Client::Json(3);
  HttpConnection::InferCall call = Client::Call();
  call.content_encoding = "gzip";
  call.accept_encoding = "deflate";
  client.Infer(Compress(Compression::kGzip, {json})->view(), call);
  client.Flush();
  CHECK(Contains(client.Take(), "Content-Encoding: deflate\r\n"));
  client.Infer(json, call);
  client.Flush();
  CHECK(Contains(client.Take(), "HTTP/1.1 400 Bad Request"));
  const std::string bomb(1001, ' ');
  client.Infer(Compress(Compression::kGzip, {bomb})->view(), call);
  client.Flush();
  CHECK(Contains(client.Take(), "Use --http-max-input-size to increase the limit."));
}

TEST(HttpConnection, LargeBodiesBecomeJobs) {
  Client client;
  const std::string padding(300000, ' ');
  auto job = client.Infer(Client::Json(4) + padding);
  CHECK(job != nullptr);
  CHECK_EQ(client.Flush(), size_t{0});
  const int before = client.engine->dispatches;
  std::thread([&job] { job->Run(true); }).join();
  CHECK_EQ(client.engine->dispatches, before + 1);
  client.Flush();
  CHECK(Contains(client.Take(), "\"data\":[4]"));
  job->Run(true);  // a second run has nothing to do

  job = client.Infer(Client::Json(4) + padding);
  job.reset();
  client.Flush();
  CHECK(Contains(client.Take(), "HTTP/1.1 500"));

  HttpConnection::InferCall call = Client::Call();
  call.header_length = "0";
  CHECK(client.Infer(padding, call) == nullptr);
  client.Flush();
  CHECK(Contains(client.received, "HTTP/1.1 200 OK"));
}

TEST(HttpConnection, ClosesAfterTheLastAnswer) {
  Client client;
  HttpConnection::InferCall call = Client::Call();
  call.keep_alive = false;
  client.engine->answering = false;
  client.Infer(Client::Json(1));
  client.Infer(Client::Json(2), call);
  client.Infer(Client::Json(3));
  client.engine->AnswerAll();
  client.Flush();
  CHECK(client.closed);
  CHECK(Contains(client.received, "Connection: close\r\n"));
  CHECK(Contains(client.received, "\"data\":[2]"));
  CHECK(!Contains(client.received, "\"data\":[3]"));
  CHECK_EQ(client.connection->in_flight(), size_t{0});
  CHECK(client.Infer(Client::Json(4)) == nullptr);
  client.connection->Respond(client.connection->Open(), 200, "", {}, true);
  CHECK_EQ(client.Flush(), size_t{0});
}

TEST(HttpConnection, CancelsWhenItIsLost) {
  Client client;
  client.engine->answering = false;
  client.Infer(Client::Json(1));
  CHECK(!client.engine->held[0]->cancelled());
  client.connection->Close();
  client.connection->Close();
  CHECK_EQ(client.engine->cancellations, 1);
  CHECK(client.engine->held[0]->cancelled());
  client.engine->AnswerAll();
  CHECK_EQ(client.Flush(), size_t{0});
  const std::weak_ptr<HttpConnection> connection = client.connection;
  client.connection.reset();
  CHECK(connection.expired());
}

TEST(HttpConnection, LimitsBodies) {
  Client client(HttpConnection::Options{1000, 10});
  CHECK(client.connection->Append("12345678"));
  CHECK(!client.connection->Append("90a"));
  CHECK_EQ(client.connection->body_size(), size_t{8});
  HttpConnection::Room room = client.connection->BodyBuffer(100);
  CHECK_EQ(room.size, size_t{2});
  room.data[0] = '9';
  client.connection->BodyFilled(1);
  CHECK(client.connection->Append("0"));
  CHECK_EQ(client.connection->BodyBuffer(1).size, size_t{0});
  CHECK_EQ(client.connection->TakeBody().view(), "1234567890");
  CHECK_EQ(client.connection->body_size(), size_t{0});
  CHECK_EQ(client.connection->TakeBody().size(), size_t{0});
  // What is announced is not what is allocated.
  Client other;
  CHECK(other.connection->BodyBuffer(size_t{1} << 30).size <= size_t{1} << 20);
}

TEST(HttpConnection, WritesLargeAnswersPieceByPiece) {
  Client client;
  HttpConnection::InferCall call = Client::Call();
  call.header_length = "0";
  std::string body(10 << 20, '\0');
  for (size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>(i * 7 + i / 1000);
  client.Infer(body, call);
  const uint64_t last = client.connection->Open();
  client.connection->Respond(last, 200, std::string(20000, 'y'), {}, true);
  CHECK_EQ(client.Flush(), Connection::kWriteLimit);
  client.connection->Pause();
  CHECK_EQ(client.Flush(), size_t{0});
  client.connection->Resume();
  CHECK_EQ(client.Flush(), Connection::kWriteLimit);
  while (client.Flush() != 0) {
  }
  CHECK(Contains(client.received, "\r\n\r\n{\"model_name\":\"m\""));
  CHECK(Contains(client.received, body));
  CHECK_EQ(client.received.substr(client.received.size() - 20000), std::string(20000, 'y'));
  CHECK_EQ(client.connection->in_flight(), size_t{0});
}

}  // namespace
}  // namespace pyinfer
