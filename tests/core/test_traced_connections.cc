// SPDX-License-Identifier: Apache-2.0
// What both protocols note of a traced request: when it came, when it was sent, and whose trace it is part of.
#include <string>

#include "engine/engine.h"
#include "grpc_fixtures.h"
#include "protocol/http_connection.h"
#include "tracing.h"

namespace pyinfer {
namespace {

using namespace testing;

constexpr const char* kParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

// An engine with an identity model "m" that traces everything; time moves by a second whenever a test says so.
struct Traces {
  explicit Traces(bool decoupled = false) {
    ModelSpec spec;
    spec.name = "m";
    spec.version = 1;
    spec.version_text = "1";
    spec.inputs = {{"X", DType::kUint8, {-1}, {}, false}};
    spec.outputs = spec.inputs;
    spec.decoupled = decoupled;
    model = engine->CreateModel(std::move(spec));
    instance = model->AddInstance();
    engine->Publish("m", {model}, {});
    engine->tracer()->EnableSpans();
    engine->tracer()->Set("", {kTraceTimestamps, 1, -1, 0});
  }
  ~Traces() { model->Stop(); }
  Traces(const Traces&) = delete;
  Traces& operator=(const Traces&) = delete;

  void Tick() { clock->Advance(1); }
  // The model answers what is queued, on this thread: what it held is let go of before the test goes on.
  void Answer() {
    Batch batch = model->TakeNow(instance);
    for (size_t i = 0; i < batch.size(); ++i) batch.Respond(i, batch.request(i).inputs, {});
  }
  std::vector<CollectedTrace> Take() { return engine->tracer()->queue()->Take(std::chrono::milliseconds(0)); }

  std::shared_ptr<ManualClock> clock = std::make_shared<ManualClock>(1000);
  std::shared_ptr<Engine> engine = std::make_shared<Engine>(clock);
  std::shared_ptr<Model> model;
  size_t instance = 0;
  std::shared_ptr<Mailbox> mailbox = std::make_shared<Mailbox>(engine);
};

struct HttpTraces : Traces {
  void Infer(bool last = false, std::unique_ptr<TraceContext> context = nullptr) {
    HttpConnection::InferCall call;
    call.model = "m";
    connection->Infer(std::move(call), last, std::move(context));
  }
  std::shared_ptr<HttpConnection> connection = std::make_shared<HttpConnection>(mailbox, 1, HttpConnection::Options());
};

constexpr std::string_view kBody = R"({"inputs":[{"name":"X","datatype":"UINT8","shape":[1],"data":[7]}]})";

TEST(TracedConnections, HttpBodyInOnePiece) {
  HttpTraces t;
  t.connection->Append(kBody);
  t.Tick();
  t.Infer();
  t.Answer();
  t.mailbox->Flush();
  const auto traces = t.Take();
  CHECK_EQ(traces.size(), size_t{1});
  const TraceRecord& record = traces[0].record;
  CHECK(record.transport == Transport::kHttp);
  CHECK(record.timeline.receiving == 1000 && record.timeline.received == 1000);
  CHECK(record.timeline.started == 1001 && record.timeline.answered == 1001);
  CHECK_EQ(record.sends.size(), size_t{1});
  CHECK(record.sends[0].begun == 1001 && record.sends[0].ended == 1001);
}

TEST(TracedConnections, HttpBodyInPieces) {
  HttpTraces t;
  t.connection->Append(kBody.substr(0, 10));
  t.Tick();
  const HttpConnection::Room room = t.connection->BodyBuffer(kBody.size() - 10);
  std::memcpy(room.data, kBody.data() + 10, room.size);
  t.connection->BodyFilled(room.size);
  t.Tick();
  t.Infer();
  t.Answer();
  t.mailbox->Flush();
  const auto traces = t.Take();
  CHECK(traces.at(0).record.timeline.receiving == 1000 && traces[0].record.timeline.received == 1002);
}

TEST(TracedConnections, HttpBodyOfTheNextRequestHasItsOwnTime) {
  HttpTraces t;
  t.connection->Append("what a control request brings");
  t.connection->TakeBody();
  t.Tick();
  t.connection->Append(kBody);
  t.Infer();
  t.Answer();
  t.mailbox->Flush();
  CHECK_EQ(t.Take().at(0).record.timeline.receiving, TimeNs{1001});
}

TEST(TracedConnections, HttpAnswerThatWaitsIsSentWhenItLeaves) {
  HttpTraces t;
  t.connection->Append(kBody);
  t.Infer(/*last=*/true);
  t.Answer();
  t.connection->Pause();
  t.mailbox->Flush();
  CHECK(t.Take().empty());
  t.Tick();
  t.connection->Resume();
  CHECK_EQ(t.mailbox->Flush().size(), size_t{1});
  const auto traces = t.Take();
  CHECK(traces.at(0).record.sends.at(0).begun == 1000 && traces[0].record.sends[0].ended == 1001);
}

TEST(TracedConnections, HttpAnswerThatIsNeverSentHasNoEnd) {
  HttpTraces t;
  t.connection->Append(kBody);
  t.Infer();
  t.Answer();
  t.connection->Pause();
  t.mailbox->Flush();
  t.connection->Close();
  const auto traces = t.Take();
  CHECK(traces.at(0).record.sends.at(0).begun == 1000 && traces[0].record.sends[0].ended == 0);
}

TEST(TracedConnections, HttpCarriesTheClientsTrace) {
  HttpTraces t;
  auto context = std::make_unique<TraceContext>();
  context->AddParent(kParent);
  context->AddState("a=b");
  t.connection->Append(kBody);
  t.Infer(false, std::move(context));
  t.Answer();
  t.mailbox->Flush();
  const TraceSpans spans = t.Take().at(0).record.spans;
  CHECK_EQ(TraceParentText(spans.trace, spans.parent), kParent);
  CHECK_EQ(spans.state, "a=b");
}

TEST(TracedConnections, HttpEventsAreSentWhenTheyLeave) {
  Traces t(/*decoupled=*/true);
  const auto connection = std::make_shared<HttpConnection>(t.mailbox, 1, HttpConnection::Options());
  HttpConnection::InferCall call;
  call.model = "m";
  call.kind = HttpConnection::Kind::kGenerateStream;
  auto context = std::make_unique<TraceContext>();
  context->AddParent(kParent);
  connection->Append(R"({"X":7})");
  connection->Infer(std::move(call), false, std::move(context));
  std::shared_ptr<Responder> responder = t.model->TakeNow(t.instance).Detach(0);
  const std::vector<Tensor> outputs = {{"X", DType::kUint8, {1}, Slice::Copy("a", 1)}};
  responder->Send(outputs, {}, false);
  t.mailbox->Flush();
  t.Tick();
  connection->Pause();
  responder->Send(outputs, {}, false);
  t.mailbox->Flush();
  t.Tick();
  connection->Resume();
  t.mailbox->Flush();
  responder->Send(outputs, {}, false);
  connection->Pause();
  t.mailbox->Flush();
  responder->End();
  responder.reset();
  connection->Close();
  t.mailbox->Flush();
  const auto traces = t.Take();
  const TraceRecord& record = traces.at(0).record;
  CHECK(record.transport == Transport::kHttp);
  CHECK_EQ(TraceParentText(record.spans.trace, record.spans.parent), kParent);
  CHECK_EQ(record.sends.size(), size_t{3});
  CHECK(record.sends[0].begun == 1000 && record.sends[0].ended == 1000);
  CHECK(record.sends[1].begun == 1001 && record.sends[1].ended == 1002);
  CHECK(record.sends[2].begun == 1002 && record.sends[2].ended == 0);
}

struct GrpcTraces : Traces {
  explicit GrpcTraces(int32_t client_window = 65535) : client(client_window) {}

  // Both ends talk until neither has anything to say.
  void Exchange() {
    for (;;) {
      const std::string sent = client.Written();
      if (!sent.empty()) connection->Receive(reinterpret_cast<const uint8_t*>(sent.data()), sent.size());
      Answer();
      std::string received;
      for (const Written& written : mailbox->Flush()) {
        for (const Slice& piece : written.output.pieces()) received += piece.view();
        received += written.output.tail();
      }
      if (!received.empty()) client.Receive(received);
      if (sent.empty() && received.empty()) return;
    }
  }

  Http2Client client;
  std::shared_ptr<GrpcConnection> connection =
      std::make_shared<GrpcConnection>(mailbox, 1, std::make_shared<const GrpcConnection::Options>());
};

TEST(TracedConnections, GrpcCall) {
  GrpcTraces t;
  t.client.Request(CallHeaders(kInfer, {{"traceparent", kParent}, {"tracestate", "a=b"}}), Framed(InferMessage("x")));
  t.Exchange();
  const auto traces = t.Take();
  CHECK_EQ(traces.size(), size_t{1});
  const TraceRecord& record = traces[0].record;
  CHECK(record.transport == Transport::kGrpc);
  CHECK(record.timeline.receiving == 1000 && record.timeline.received == 1000);
  CHECK(record.sends.size() == 1 && record.sends[0].ended == 1000);
  CHECK_EQ(TraceParentText(record.spans.trace, record.spans.parent), kParent);
  CHECK_EQ(record.spans.state, "a=b");
  t.connection->Close();
}

TEST(TracedConnections, GrpcMessageInPieces) {
  GrpcTraces t;
  t.client.Request(CallHeaders(kInfer), Framed(InferMessage(std::string(100, 'x'))));
  const std::string sent = t.client.Written();
  const auto* bytes = reinterpret_cast<const uint8_t*>(sent.data());
  t.connection->Receive(bytes, sent.size() - 50);
  t.Tick();
  t.connection->Receive(bytes + sent.size() - 50, 50);
  t.Exchange();
  const auto traces = t.Take();
  CHECK(traces.at(0).record.timeline.receiving == 1000 && traces[0].record.timeline.received == 1001);
  t.connection->Close();
}

TEST(TracedConnections, GrpcAnswerThatTheClientDoesNotTakeIsNotSent) {
  GrpcTraces t(/*client_window=*/100);
  t.client.Request(CallHeaders(kInfer), Framed(InferMessage(std::string(1000, 'x'))));
  t.Exchange();
  CHECK(t.Take().empty());
  t.connection->Close();
  const auto traces = t.Take();
  CHECK(traces.at(0).record.sends.at(0).begun != 0 && traces[0].record.sends[0].ended == 0);
}

}  // namespace
}  // namespace pyinfer
