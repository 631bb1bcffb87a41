// SPDX-License-Identifier: Apache-2.0
// Calls whose client stops in the middle of a message.
#include <string>

#include "grpc_stream_fixtures.h"

namespace pyinfer {
namespace {

using namespace testing;

constexpr const char* kLate = "the request message took too long";

GrpcConnection::Options Patient() {
  GrpcConnection::Options options = MakeOptions();
  options.message_timeout = 100;
  return options;
}

struct Stalled : GrpcPair {
  explicit Stalled(GrpcConnection::Options options = Patient()) : GrpcPair(std::move(options)) {}
  int32_t Begin(const std::string& part, const std::string& path = kInfer) {
    const int32_t stream = client.Request(CallHeaders(path), part, /*keep_open=*/true);
    Exchange();
    return stream;
  }
  void Wait(TimeNs time = 100) {
    engine->now += time;
    Exchange();
  }
};

TEST(GrpcStall, CallsOfOneRequestAreEnded) {
  const std::string whole = Framed(InferMessage("abc"));
  // Nothing but headers; half a prefix; half a message; all of it, but not the end.
  for (const size_t size : {size_t{0}, size_t{3}, whole.size() / 2, whole.size()}) {
    for (const char* path : {kInfer, kLive}) {
      Stalled pair;
      const int32_t stream = pair.Begin(whole.substr(0, size), path);
      CHECK_EQ(pair.mailbox->NextFlush(), pair.engine->now + 100);
      pair.Wait(99);
      CHECK(!pair.client.streams[stream].closed);
      const int32_t other = pair.Infer("other");
      pair.Wait(1);
      pair.CheckStatus(stream, "4", kLate);
      pair.CheckAnswered(other, "other");
      CHECK_EQ(pair.connection->in_flight(), size_t{0});
      CHECK_EQ(pair.mailbox->NextFlush(), TimeNs{0});
      CHECK(pair.engine->held.empty() && !pair.connection->has_events());
    }
  }
}

TEST(GrpcStall, SlowMessagesAreWaitedForWhileTheyGrow) {
  Stalled pair;
  const std::string data(40000, 'x');
  const std::string whole = Framed(InferMessage(data));
  const int32_t stream = pair.Begin(whole.substr(0, 5000));
  size_t sent = 5000;
  for (; sent + 4096 <= whole.size(); sent += 4096) {
    pair.client.SendMore(stream, whole.substr(sent, 4096));
    pair.Exchange();
    pair.Wait();
    CHECK(!pair.client.streams[stream].closed);
  }
  pair.client.SendMore(stream, whole.substr(sent));
  pair.client.FinishSending(stream);
  pair.Exchange();
  CHECK(pair.client.streams[stream].body == Framed(InferAnswer(data)));
  CHECK_EQ(pair.mailbox->NextFlush(), TimeNs{0});
}

TEST(GrpcStall, ADripIsNoProgress) {
  Stalled pair;
  const int32_t stream = pair.Begin(Framed(InferMessage(std::string(5000, 'x'))).substr(0, 1000));
  for (int i = 0; i < 10; ++i) {
    pair.client.SendMore(stream, "x");
    pair.Exchange();
    pair.Wait(10);
  }
  pair.CheckStatus(stream, "4", kLate);
}

TEST(GrpcStall, MessagesInOnePieceSetNoTimer) {
  Stalled pair;
  pair.engine->answering = false;
  pair.Infer("abc");
  pair.Exchange();
  CHECK_EQ(pair.mailbox->NextFlush(), TimeNs{0});
  pair.Wait();
  CHECK_EQ(pair.connection->in_flight(), size_t{1});
}

TEST(GrpcStall, AStreamMayRestBetweenItsMessages) {
  StreamPair pair({}, Patient());
  pair.Ask(InferMessage("a"));
  pair.Exchange();
  pair.engine->now += 1000;
  pair.Exchange();
  CHECK(pair.Body() == Answer("a"));
  const std::string message = Framed(InferMessage("b"));
  pair.client.SendMore(pair.id, message.substr(0, 9));
  pair.Exchange();
  pair.engine->now += 99;
  pair.Exchange();
  pair.client.SendMore(pair.id, message.substr(9));
  pair.Exchange();
  CHECK(pair.Body() == Answer("b"));
  pair.engine->now += 1000;
  pair.Exchange();
  CHECK(!pair.closed());
  CHECK_EQ(pair.mailbox->NextFlush(), TimeNs{0});
}

TEST(GrpcStall, AStreamThatStopsWithinAMessageIsEndedAndItsRequestsAreCancelled) {
  StreamPair pair({}, Patient());
  pair.engine->answering = false;
  pair.Ask(InferMessage("a"));
  pair.client.SendMore(pair.id, Framed(InferMessage("b")).substr(0, 9));
  pair.Exchange();
  pair.engine->now += 100;
  pair.Exchange();
  CHECK_EQ(pair.Status(), "4");
  CHECK_EQ(pair.Message(), kLate);
  CHECK(pair.closed());
  CHECK(pair.engine->held.at(0)->cancelled());
  CHECK(pair.engine->cancellations > 0);
}

TEST(GrpcStall, AStreamThatIsHeldUpIsNotLate) {
  StreamPair pair({}, Patient());
  pair.engine->answering = false;
  const std::string message = InferMessage(std::string(size_t{1} << 20, 'x'));
  // More than a stream may hold: the rest is not read.
  for (int i = 0; i < 80; ++i) pair.Ask(message);
  pair.Exchange();
  const size_t held = pair.engine->held.size();
  CHECK(held < 80);
  for (int i = 0; i < 5; ++i) {
    pair.engine->now += 100;
    pair.Exchange();
    CHECK(!pair.closed());
  }
  CHECK_EQ(pair.engine->held.size(), held);
}

TEST(GrpcStall, NoLimit) {
  GrpcConnection::Options options = MakeOptions();
  options.message_timeout = 0;
  Stalled pair(options);
  const int32_t stream = pair.Begin("x");
  CHECK_EQ(pair.mailbox->NextFlush(), TimeNs{0});
  pair.Wait(TimeNs{1} << 60);
  CHECK(!pair.client.streams[stream].closed);
}

TEST(GrpcStall, ALostConnectionLeavesNoTimer) {
  Stalled pair;
  pair.Begin("x");
  pair.connection->Close();
  CHECK_EQ(pair.mailbox->NextFlush(), TimeNs{0});
}

}  // namespace
}  // namespace pyinfer
