// SPDX-License-Identifier: Apache-2.0
// What a gRPC connection withstands, and how it ends.
#include <string>
#include <string_view>

#include "grpc_fixtures.h"

namespace pyinfer {
namespace {

using testing::CallHeaders;
using testing::Framed;
using testing::GrpcPair;
using testing::InferMessage;
using testing::kInfer;
using testing::MakeOptions;

TEST(Grpc, SlowReadersAreWaitedFor) {
  GrpcPair pair(MakeOptions(1 << 26, 100), 1000);
  const std::string data(5000, 'd');
  const int32_t stream = pair.Infer(data);
  pair.Exchange();
  auto& answer = pair.client.streams[stream];
  CHECK_EQ(answer.body.size(), size_t{1000});
  size_t rounds = 0;
  while (!answer.closed && ++rounds < 1000) {
    pair.client.Allow(stream, 500);
    pair.Exchange();
  }
  pair.CheckAnswered(stream, data);
}

TEST(Grpc, AWindowOfOneByte) {
  GrpcPair pair(MakeOptions(1 << 26, 100), 1);
  const int32_t stream = pair.Infer("abcdef");
  pair.Exchange();
  for (int i = 0; i < 200 && !pair.client.streams[stream].closed; ++i) {
    pair.client.Allow(stream, 1);
    pair.Exchange();
  }
  pair.CheckAnswered(stream, "abcdef");
}

TEST(Grpc, LargeAnswersLeaveInParts) {
  GrpcPair pair(MakeOptions(1 << 26, 100), 1 << 30);
  const std::string data(size_t{12} << 20, 'L');
  const int32_t stream = pair.Infer(data);
  // The client's connection window is what HTTP/2 gives it until it says otherwise.
  for (int i = 0; i < 1000 && !pair.client.streams[stream].closed; ++i) {
    const size_t before = pair.client.streams[stream].body.size();
    pair.Exchange();
    pair.client.Allow(stream, pair.client.streams[stream].body.size() - before);
  }
  pair.CheckAnswered(stream, data);
  CHECK(pair.most_written < Connection::kWriteLimit + (size_t{2} << 20));
}

TEST(Grpc, APausedConnectionHandsOutNothing) {
  GrpcPair pair;
  pair.Exchange();
  pair.connection->Pause();
  const int32_t stream = pair.Infer("abc");
  pair.Exchange();
  CHECK(!pair.client.streams[stream].closed);
  pair.connection->Resume();
  pair.Exchange();
  pair.CheckAnswered(stream, "abc");
}

TEST(Grpc, DrainFinishesWhatIsOpen) {
  GrpcPair pair;
  pair.engine->answering = false;
  const int32_t stream = pair.Infer("abc");
  pair.Exchange();
  pair.connection->Drain();
  pair.connection->Drain();
  pair.Exchange();
  CHECK(pair.client.goaway);
  CHECK_EQ(pair.client.goaway_code, uint32_t{NGHTTP2_NO_ERROR});
  CHECK_EQ(pair.client.goaway_last, stream);
  CHECK(!pair.closed);
  pair.engine->answering = true;
  pair.Exchange();
  pair.CheckAnswered(stream, "abc");
  CHECK(pair.closed);
}

TEST(Grpc, DrainOfAnIdleConnection) {
  GrpcPair pair;
  pair.Exchange();
  pair.connection->Drain();
  pair.Exchange();
  CHECK(pair.client.goaway && pair.closed);
}

TEST(Grpc, AFloodOfResets) {
  GrpcPair pair;
  pair.engine->answering = false;
  for (int i = 0; i < 1200 && !pair.client.goaway; ++i) {
    const int32_t stream = pair.Infer("a");
    const std::string request = pair.client.Written();
    pair.client.Reset(stream);
    pair.Deliver(request + pair.client.Written());
    // A request and its reset in one read: both are executed, and what is executed is bounded.
    CHECK(pair.engine->held.size() <= 200);
    const std::string received = pair.Flush();
    if (!received.empty()) pair.client.Receive(received);
    if (i % 100 == 99) {
      pair.engine->AnswerAll();
      pair.Flush();
    }
  }
  CHECK(pair.client.goaway);
  CHECK_EQ(pair.client.goaway_code, uint32_t{NGHTTP2_ENHANCE_YOUR_CALM});
  pair.Flush();
  CHECK(pair.closed);
}

TEST(Grpc, RequestsOfResetCallsCount) {
  GrpcPair pair(MakeOptions(1000, 10));
  pair.engine->answering = false;
  int refused = 0;
  for (int i = 0; i < 50; ++i) {
    const int32_t stream = pair.Infer("a");
    pair.Exchange();
    if (pair.client.streams[stream].headers["grpc-status"] == "14") ++refused;
    pair.client.Reset(stream);
    pair.Exchange();
  }
  CHECK_EQ(pair.engine->held.size(), size_t{20});
  CHECK_EQ(refused, 30);
  pair.engine->answering = true;
  pair.Exchange();
  const int32_t stream = pair.Infer("again");
  pair.Exchange();
  pair.CheckAnswered(stream, "again");
}

TEST(Grpc, ABadPreface) {
  GrpcPair pair;
  pair.Deliver("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  pair.Flush();
  CHECK(pair.closed);
  pair.Deliver("more");
  pair.Flush();
}

TEST(Grpc, AnyByteMayBeWrong) {
  testing::Http2Client client;
  client.Request(CallHeaders(kInfer), Framed(InferMessage("hello")));
  const std::string whole = client.Written();
  testing::DeliverWithEachByteWrong(whole);
}

}  // namespace
}  // namespace pyinfer
