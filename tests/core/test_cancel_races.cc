// SPDX-License-Identifier: Apache-2.0
// A request is cancelled at each point of its way, and on connections whose clients leave at any time: it gets one
// answer, its batch-mates get theirs, and nothing is left.
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "grpc_fixtures.h"
#include "protocol/http_connection.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using namespace testing;

// One model without an instance of its own: the test takes its batches.
struct Bench {
  explicit Bench(bool decoupled = false) {
    ModelSpec spec = IntModel({8, true, {}, 0});
    spec.decoupled = decoupled;
    model = engine.CreateModel(std::move(spec));
    engine.Publish("m", {model}, {});
    instance = model->AddInstance();
  }
  ~Bench() { model->Stop(); }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  void Submit(const std::shared_ptr<CompletionSink>& sink, int32_t value) {
    auto request = std::make_unique<Request>(sink);
    request->model_name = "m";
    request->inputs.push_back({"IN", DType::kInt32, {1, 1}, Ints({value})});
    engine.Submit(std::move(request));
  }
  // What a connection does when its client is gone.
  void Cancel(const SinkPtr& sink) {
    sink->cancel = true;
    engine.NoteCancellation();
  }
  void CheckEmpty(uint64_t requests) {
    engine.Dispatch();
    CHECK_EQ(model->in_flight(), size_t{0});
    CHECK_EQ(model->pending(), size_t{0});
    const ModelStatistics statistics = model->Statistics();
    CHECK_EQ(statistics.success.count + statistics.fail.count, requests);
  }

  std::shared_ptr<ManualClock> clock = std::make_shared<ManualClock>(1);
  Engine engine{clock};
  std::shared_ptr<Model> model;
  size_t instance = 0;
};

std::vector<Tensor> Out(int32_t value) { return {{"OUT", DType::kInt32, {1, 1}, Ints({value})}}; }

// The point at which a request is cancelled, by name; each test goes through all of them.
const std::vector<std::string> kPoints = {"submit",   "queued",  "dispatch", "wait",    "picked",   "executing",
                                          "answered", "settled", "detached", "partial", "finished", "never"};

void CancelAt(const std::string& point, bool decoupled, bool detach) {
  Bench bench(decoupled);
  const SinkPtr one = std::make_shared<KeepingSink>(), other = std::make_shared<KeepingSink>();
  bool reached = false;
  const auto at = [&](const std::string& now) {
    if (now != point) return;
    reached = true;
    bench.Cancel(one);
  };
  at("submit");
  bench.Submit(one, 1);
  bench.Submit(other, 2);
  at("queued");
  bench.engine.Dispatch();
  at("dispatch");
  CHECK(bench.model->RipeAt(bench.instance, bench.clock->Now()) == bench.clock->Now());
  at("wait");
  std::shared_ptr<Responder> responder;
  {
    Batch batch = bench.model->TakeNow(bench.instance);
    at("picked");
    batch.MarkPacked();
    at("executing");
    const bool both = batch.size() == 2;
    if (both && detach) responder = batch.Detach(0);
    if (both && !detach) batch.Respond(0, Out(1), {});
    at("answered");
    batch.Respond(batch.size() - 1, Out(2), {});
    batch.SettleOutputs();
    at("settled");
  }
  at("detached");
  if (responder) {
    if (decoupled) responder->Send(Out(1), {}, /*final=*/false);
    at("partial");
    CHECK(responder->Send(Out(1), {}, /*final=*/true));
    CHECK(!responder->Send(Out(1), {}, /*final=*/true));
  }
  at("finished");
  CHECK_EQ(one->answers.load(), 1);
  CHECK(one->code() == Code::kOk || (reached && one->code() == Code::kCancelled));
  // What had not begun is not begun.
  const bool before = point == "submit" || point == "queued" || point == "dispatch" || point == "wait";
  CHECK_EQ(one->code() == Code::kCancelled, before);
  CHECK(other->answers.load() == 1 && other->code() == Code::kOk);
  bench.CheckEmpty(2);
}

TEST(CancelRaces, AtEachPointOfABatch) {
  for (const std::string& point : kPoints) CancelAt(point, /*decoupled=*/false, /*detach=*/false);
}

TEST(CancelRaces, AtEachPointOfAResponseThatIsSentByItself) {
  for (const std::string& point : kPoints) {
    CancelAt(point, /*decoupled=*/false, /*detach=*/true);
    CancelAt(point, /*decoupled=*/true, /*detach=*/true);
  }
}

// Cancelled from the n-th time on that anybody looks: whichever look is the first to find it, the others agree.
class TurningSink final : public CompletionSink {
 public:
  explicit TurningSink(int looks) : looks_(looks) {}
  void Send(const Request&, Response given, bool final) noexcept override {
    if (final) ++answers;
    code = given.status.code();
  }
  bool cancelled() const noexcept override { return looks_.fetch_sub(1) <= 0; }

  int answers = 0;
  Code code = Code::kOk;

 private:
  mutable std::atomic<int> looks_;
};

TEST(CancelRaces, WhicheverLookFindsIt) {
  std::map<Code, int> seen;
  for (int looks = 0; looks < 24; ++looks) {
    Bench bench;
    const auto turning = std::make_shared<TurningSink>(looks);
    const SinkPtr first = std::make_shared<KeepingSink>(), last = std::make_shared<KeepingSink>();
    bench.Submit(first, 0);
    bench.Submit(turning, 1);
    bench.Submit(last, 2);
    for (int round = 0; round < 2; ++round) {
      bench.engine.NoteCancellation();
      bench.engine.Dispatch();
      bench.model->Expire(bench.clock->Now());
    }
    {
      Batch batch = bench.model->TakeNow(bench.instance);
      for (size_t i = 0; i < batch.size(); ++i) batch.Respond(i, Out(7), {});
    }
    bench.engine.NoteCancellation();
    bench.CheckEmpty(3);
    CHECK_EQ(turning->answers, 1);
    ++seen[turning->code];
    for (const SinkPtr& sink : {first, last}) CHECK(sink->answers.load() == 1 && sink->code() == Code::kOk);
  }
  CHECK(seen[Code::kCancelled] > 1 && seen[Code::kOk] > 1);
}

// --- over connections ---

// A model "m" that is executed on two threads of the test. Some answers are given later, by a third.
class Served {
 public:
  Served() {
    ModelSpec spec;
    spec.name = "m";
    spec.version = 1;
    spec.version_text = "1";
    spec.inputs = spec.outputs = {{"X", DType::kUint8, {-1}, {}, false}};
    spec.batching = {4, true, {}, 0};
    model = engine->CreateModel(std::move(spec));
    engine->Publish("m", {model}, {});
    for (unsigned i = 0; i < 2; ++i) {
      threads_.emplace_back([this, i, instance = model->AddInstance()] { Execute(i, instance); });
    }
    threads_.emplace_back([this] { AnswerLate(); });
  }
  // Until there is something to flush, or for a moment: what is due by time wakes nobody.
  void Wait() {
    pollfd waited = {mailbox->fd(), POLLIN, 0};
    poll(&waited, 1, 1);
  }
  // Everything that was accepted is answered.
  void Finish() {
    CHECK(model->Drain(std::chrono::seconds(60)));
    model->Stop();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ending_ = true;
    }
    more_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    CHECK_EQ(model->in_flight(), size_t{0});
    CHECK_EQ(model->pending(), size_t{0});
  }

  std::shared_ptr<Engine> engine = std::make_shared<Engine>(std::make_shared<SystemClock>());
  std::shared_ptr<Model> model;
  std::shared_ptr<Mailbox> mailbox = std::make_shared<Mailbox>(engine);

 private:
  struct Late {
    std::shared_ptr<Responder> responder;
    std::vector<Tensor> outputs;
  };

  void Execute(unsigned seed, size_t instance) {
    std::minstd_rand random(seed);
    for (Batch batch = model->NextBatch(instance); !batch.empty(); batch = model->NextBatch(instance)) {
      for (size_t i = 0; i < batch.size(); ++i) {
        if (random() % 4 == 0) std::this_thread::yield();
        std::vector<Tensor> outputs = batch.request(i).inputs;
        if (random() % 2 == 0) {
          batch.Respond(i, std::move(outputs), {});
        } else {
          {
            std::lock_guard<std::mutex> lock(mutex_);
            late_.push_back({batch.Detach(i), std::move(outputs)});
          }
          more_.notify_all();
        }
      }
      batch.Finish();  // before the next one is waited for
    }
  }
  void AnswerLate() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      more_.wait(lock, [this] { return ending_ || !late_.empty(); });
      std::vector<Late> taken;
      taken.swap(late_);
      if (taken.empty()) return;
      lock.unlock();
      for (Late& late : taken) late.responder->Send(std::move(late.outputs), {}, /*final=*/true);
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable more_;
  bool ending_ = false;
  std::vector<Late> late_;
  std::vector<std::thread> threads_;
};

TEST(CancelRaces, HttpClientsThatLeave) {
  constexpr std::string_view kBody = R"({"inputs":[{"name":"X","datatype":"UINT8","shape":[1,2],"data":[7,8]}]})";
  Served served;
  std::minstd_rand random(5);
  HttpConnection::InferCall call;
  call.model = "m";
  std::map<uint64_t, std::shared_ptr<HttpConnection>> open;
  size_t answered = 0, stayed = 0;
  const auto flush = [&] {
    for (const Written& written : served.mailbox->Flush()) {
      std::string text;
      for (const Slice& piece : written.output.pieces()) text += piece.view();
      text += written.output.tail();
      for (size_t at = text.find("HTTP/1.1 200"); at != std::string::npos; at = text.find("HTTP/1.1 200", at + 1)) {
        ++answered;
      }
      CHECK(text.find("HTTP/1.1 5") == std::string::npos);
    }
  };
  for (uint64_t id = 1; id <= 1500; ++id) {
    auto connection = std::make_shared<HttpConnection>(served.mailbox, id, HttpConnection::Options());
    open[id] = connection;
    for (unsigned i = 0; i <= random() % 3; ++i) {
      connection->Append(kBody);
      connection->Infer(call);
    }
    if (random() % 2 == 0) flush();
    const auto leaving = open.begin();
    if (random() % 3 != 0) {
      leaving->second->Close();
      open.erase(leaving);
    }
  }
  while (std::any_of(open.begin(), open.end(), [](const auto& item) { return item.second->in_flight() != 0; })) {
    served.Wait();
    flush();
  }
  stayed = open.size();
  CHECK(answered > stayed && stayed > 100);
  served.Finish();
  flush();
}

TEST(CancelRaces, GrpcClientsThatLeave) {
  Served served;
  std::minstd_rand random(6);
  const auto options = std::make_shared<const GrpcConnection::Options>(MakeOptions());
  for (uint64_t id = 1; id <= 150; ++id) {
    Http2Client client;
    auto connection = std::make_shared<GrpcConnection>(served.mailbox, id, options);
    const auto exchange = [&] {
      const std::string sent = client.Written();
      if (!sent.empty()) connection->Receive(reinterpret_cast<const uint8_t*>(sent.data()), sent.size());
      for (const Written& written : served.mailbox->Flush()) {
        if (written.connection_id != id) continue;
        std::string bytes;
        for (const Slice& piece : written.output.pieces()) bytes += piece.view();
        bytes += written.output.tail();
        client.Receive(bytes);
      }
    };
    const std::string message = Field(1, "m") + InputField("X", "UINT8", {1, 2}) + Field(7, "ab");
    const int32_t stream = client.Request(CallHeaders(kStreamInfer), "", /*keep_open=*/true);
    std::vector<int32_t> calls;
    std::set<int32_t> resets;
    for (int i = 0; i < 20; ++i) {
      // Some have so little time that it is over anywhere on their way.
      const bool late = random() % 4 == 0;
      calls.push_back(client.Request(
          CallHeaders(kInfer,
                      late ? HeaderList{{"grpc-timeout", std::to_string(1 + random() % 200) + "u"}} : HeaderList{}),
          Framed(message)));
      client.SendMore(stream, Framed(message));
      if (random() % 2 == 0) exchange();
      // One that was not sent yet can be reset only once.
      const int32_t reset = calls[random() % calls.size()];
      if (random() % 3 == 0 && resets.insert(reset).second) client.Reset(reset);
    }
    if (random() % 2 == 0) {
      client.FinishSending(stream);
      const auto all = [&] {
        return std::all_of(client.streams.begin(), client.streams.end(),
                           [](const auto& item) { return item.second.closed; });
      };
      while (!all()) {
        served.Wait();
        exchange();
      }
      CHECK_EQ(client.streams[stream].headers["grpc-status"], "0");
      for (const int32_t call : calls) {
        const std::string status = client.streams[call].headers["grpc-status"];
        CHECK(status == "0" || status == "4" || client.streams[call].error == NGHTTP2_CANCEL);
      }
    } else if (random() % 2 == 0) {
      client.Reset(stream);
      exchange();
    }
    connection->Close();
  }
  served.Finish();
  served.mailbox->Flush();
}

}  // namespace
}  // namespace pyinfer
