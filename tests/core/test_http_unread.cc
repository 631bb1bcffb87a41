// SPDX-License-Identifier: Apache-2.0
// Streamed answers that clients do not read: what is kept for them is bounded.
#include <vector>

#include "http_generate_fixtures.h"

namespace pyinfer {
namespace {

using namespace testing;

// 1 MiB of one connection, 8 MiB of all.
HttpConnection::Options Bounded() {
  HttpConnection::Options options;
  options.max_unread = size_t{1} << 20;
  options.max_unread_of_all = size_t{8} << 20;
  return options;
}

// Has the model of a paused connection make responses until the request is cancelled.
size_t Overrun(GenerateClient& client, Request& request) {
  const std::string data(16 << 10, '\1');  // 32 KiB of JSON
  size_t sent = 0;
  while (!request.cancelled()) {
    request.Send(Bytes(data));
    client.Flush();
    CHECK(++sent < 100);
  }
  return sent;
}

TEST(HttpUnread, AModelIsCutOffFromAClientThatDoesNotRead) {
  GenerateClient client(Bounded());
  client.Generate();
  client.Generate();
  RequestPtr request = client.Held(), next = client.Held();
  request->Send(Bytes("a"));
  request->Send(Bytes(std::string(400 << 10, '\1')));
  client.Flush();  // a part of it
  client.connection->Pause();
  CHECK(Overrun(client, *request) > 10);
  CHECK_EQ(client.engine->cancellations, 1);
  CHECK(client.connection->unsent() < size_t{800} << 10);  // of the event that the client has a part of
  request->Send(Bytes("b"));
  request->Answer(Response::End());
  client.connection->Resume();
  std::string answer = client.Received();
  CHECK(answer.rfind("data: {\"error\":\"the client does not read its responses: ") != std::string::npos);
  CHECK_EQ(answer.substr(answer.size() - kEnd.size()), kEnd);
  CHECK_EQ(answer.find(kHead + Event("97")), size_t{0});
  size_t events = 0;
  for (size_t at = 0; (at = answer.find("data: ", at)) != std::string::npos; ++at) ++events;
  CHECK_EQ(events, size_t{3});  // the first, the one that was begun, and why there are no more
  // The connection goes on.
  next->Answer(Bytes("n"));
  CHECK_EQ(client.Received(), kHead + Event("110") + kEnd);
  CHECK_EQ(client.connection->unsent(), size_t{0});
  CHECK_EQ(client.mailbox->untaken, size_t{0});
}

TEST(HttpUnread, TheBoundIsThatOfAllAnswersOfAConnection) {
  GenerateClient client(Bounded());
  for (int i = 0; i < 4; ++i) client.Generate();
  RequestPtr first = client.Held(), second = client.Held(), third = client.Held(), fourth = client.Held();
  client.connection->Pause();
  for (int i = 0; i < 3; ++i) second->Send(Bytes(std::string(128 << 10, '\1')));
  client.Flush();
  Overrun(client, *third);
  CHECK(!first->cancelled() && !second->cancelled());
  CHECK(client.connection->unsent() < size_t{1} << 20);
  second->Send(Bytes(std::string(400 << 10, '\1')));
  fourth->Send(Bytes("late"));
  client.Flush();
  CHECK(fourth->cancelled() && !second->cancelled());
  client.connection->Resume();
  for (Request* request : {first.get(), second.get(), third.get(), fourth.get()}) request->Answer(Response::End());
  const std::string answers = client.Received();
  // Nothing of the third had left: its head and the first event are kept. The fourth had not even begun.
  CHECK(Contains(answers, kHead + kEnd + kHead));
  const size_t third_end = answers.find(kEnd + "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n");
  CHECK(third_end != std::string::npos);
  CHECK(Contains(answers.substr(third_end - 150, 150), "the client does not read its responses"));
  CHECK(Contains(answers.substr(third_end), "the client does not read its responses"));
  CHECK_EQ(client.connection->unsent(), size_t{0});
  CHECK_EQ(client.connection->in_flight(), size_t{0});
}

TEST(HttpUnread, ManyReadersThatStopDoNotTakeTheMemoryOfAServer) {
  GenerateClient client(Bounded());
  std::vector<std::shared_ptr<HttpConnection>> connections;
  std::vector<RequestPtr> requests;
  HttpConnection::InferCall call;
  call.model = "d";
  call.kind = Kind::kGenerateStream;
  for (uint64_t i = 0; i < 100; ++i) {
    connections.push_back(std::make_shared<HttpConnection>(client.mailbox, 100 + i, Bounded()));
    connections.back()->Append(kBody);
    connections.back()->Infer(call);
    connections.back()->Pause();
    requests.push_back(client.Held());
    Overrun(client, *requests.back());
    requests.back()->Send(Bytes("not this one"));
  }
  // What is left of each: its first event.
  CHECK(client.mailbox->untaken < size_t{6} << 20);
  // Those that were not cut off yet have as much as there is.
  for (uint64_t i = 0; i < 100; ++i) {
    connections.push_back(std::make_shared<HttpConnection>(client.mailbox, 200 + i, Bounded()));
    connections.back()->Append(kBody);
    connections.back()->Infer(call);
    connections.back()->Pause();
    requests.push_back(client.Held());
    while (!connections.back()->overrun()) {
      requests.back()->Send(Bytes(std::string(16 << 10, '\1')));
      client.Flush();
    }
  }
  CHECK(client.mailbox->untaken < size_t{14} << 20);
  for (const auto& connection : connections) connection->Close();
  CHECK_EQ(client.mailbox->untaken, size_t{0});
}

TEST(HttpUnread, OneLargeResponseIsNotTooMuch) {
  GenerateClient client(Bounded());
  client.Generate();
  client.connection->Pause();
  client.Held()->Answer(Bytes(std::string(4 << 20, '\1')));
  client.Flush();
  client.connection->Resume();
  const std::string answer = client.Received();
  CHECK(answer.size() > size_t{8} << 20);
  CHECK_EQ(answer.substr(answer.size() - kEnd.size()), kEnd);
}

}  // namespace
}  // namespace pyinfer
