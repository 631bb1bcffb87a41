// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "engine/response_statistics.h"
#include "sched/batch.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::Ints;
using testing::IntsOf;
using testing::KeepingSink;
using testing::SinkPtr;

class CountingObserver final : public RequestObserver {
 public:
  void OnResponse(const Request&, const ResponseReport& report) noexcept override { reports.push_back(report); }
  void OnAnswer(const Request&, const Response& response) noexcept override {
    ++answers;
    ok = response.status.ok();
  }
  std::vector<ResponseReport> reports;
  int answers = 0;
  bool ok = false;
};

// Two requests of one row each, the first of them detached from their batch.
struct Fixture {
  explicit Fixture(bool decoupled) {
    ModelSpec spec = testing::IntModel({8, true, {}, 0});
    spec.decoupled = decoupled;
    const auto model = testing::Shared(std::move(spec));
    std::vector<RequestPtr> requests;
    for (int32_t i = 0; i < 2; ++i) {
      sinks.push_back(std::make_shared<KeepingSink>());
      requests.push_back(testing::IntRequest(model, sinks.back(), 1, 1, i));
    }
    requests[0]->observer = observer;
    batch = Batch(std::move(requests), model, nullptr, clock, clock.Now());
    responder = batch.Detach(0);
  }

  static std::vector<Tensor> Out(int32_t value, int64_t rows = 1) {
    return {{"OUT", DType::kInt32, {rows, 1}, Ints(std::vector<int32_t>(static_cast<size_t>(rows), value))}};
  }

  ManualClock clock{100};
  std::shared_ptr<CountingObserver> observer = std::make_shared<CountingObserver>();
  std::vector<SinkPtr> sinks;
  Batch batch;
  std::shared_ptr<Responder> responder;
};

TEST(Responder, SendsWhatComesAfterTheBatchIsFinished) {
  Fixture f(/*decoupled=*/true);
  CHECK(f.batch.detached(0) && !f.batch.open(0) && f.batch.open(1));
  f.batch.Respond(1, Fixture::Out(5), {});
  f.batch.Finish();
  CHECK_EQ(f.sinks[1]->answers.load(), 1);
  CHECK_EQ(f.sinks[0]->answers.load(), 0);
  CHECK(f.responder->Send(Fixture::Out(1), {}, false));
  CHECK(f.responder->Send(Fixture::Out(2, 3), {}, false));
  CHECK(f.responder->Fail(Status::InvalidArg("no"), false));
  CHECK(!f.responder->ended());
  f.clock.Advance(50);
  CHECK(f.responder->End());
  CHECK(f.responder->ended());
  const KeepingSink& sink = *f.sinks[0];
  CHECK_EQ(sink.partial.size(), size_t{3});
  CHECK_EQ(IntsOf(sink.partial[0].outputs.at(0).data).at(0), 1);
  CHECK_EQ(IntsOf(sink.partial[1].outputs.at(0).data).size(), size_t{3});
  CHECK(sink.partial[2].status.code() == Code::kInvalidArg);
  CHECK_EQ(sink.answers.load(), 1);
  CHECK(sink.response.only_ends && sink.response.status.ok());
  CHECK_EQ(sink.timeline.split, TimeNs{150});
  using Kind = ResponseReport::Kind;
  CHECK_EQ(f.observer->reports.size(), size_t{4});
  const std::vector<Kind> kinds = {Kind::kSuccess, Kind::kSuccess, Kind::kFail, Kind::kEmpty};
  for (size_t i = 0; i < kinds.size(); ++i) {
    CHECK(f.observer->reports[i].kind == kinds[i]);
    CHECK_EQ(f.observer->reports[i].index, i);
  }
  CHECK_EQ(f.observer->reports[3].begun, TimeNs{100});
  CHECK_EQ(f.observer->reports[3].checked, TimeNs{150});
  CHECK_EQ(f.observer->answers, 1);
  CHECK(f.observer->ok);
}

TEST(Responder, AfterTheEndNothingIsSent) {
  Fixture f(/*decoupled=*/true);
  CHECK(f.responder->Send(Fixture::Out(1), {}, true));
  CHECK(!f.responder->Send(Fixture::Out(2), {}, false));
  CHECK(!f.responder->Fail(Status::Internal("late"), true));
  CHECK(!f.responder->End());
  CHECK(f.responder->cancelled());
  CHECK_EQ(f.sinks[0]->answers.load(), 1);
  CHECK(f.sinks[0]->partial.empty());
}

TEST(Responder, DroppedBeforeTheEndItEndsTheRequestWithAnError) {
  Fixture f(/*decoupled=*/true);
  f.responder.reset();
  CHECK_EQ(f.sinks[0]->answers.load(), 1);
  CHECK_EQ(f.sinks[0]->message(), "the model 'm' dropped a request before its last response");
  CHECK(f.sinks[0]->reason == FailureReason::kBackend);
}

TEST(Responder, AFaultInAResponseIsSentAsAnError) {
  Fixture f(/*decoupled=*/false);
  CHECK(!f.responder->decoupled());
  CHECK(f.responder->Send({}, {}, true));
  CHECK_EQ(f.sinks[0]->message(), "the model 'm' did not return its output 'OUT'");
  Fixture decoupled(/*decoupled=*/true);
  CHECK(decoupled.responder->Send({}, {}, false));  // of several responses, each may have some of the outputs
  CHECK(decoupled.sinks[0]->partial.at(0).status.ok());
  std::vector<Tensor> wrong = Fixture::Out(1);
  wrong[0].name = "OTHER";
  CHECK(decoupled.responder->Send(std::move(wrong), {}, false));
  CHECK_EQ(decoupled.sinks[0]->partial.at(1).status.message(),
           "the model returned an unknown output 'OTHER' of model 'm'");
  decoupled.sinks[0]->cancel = true;
  CHECK(decoupled.responder->cancelled());
}

TEST(ResponseStatistics, AreSummedByIndexUpToALimit) {
  ResponseStatisticsCollector collector;
  using Kind = ResponseReport::Kind;
  collector.Add({Kind::kSuccess, 0, 100, 130, 140});
  collector.Add({Kind::kSuccess, 0, 200, 230, 240});
  collector.Add({Kind::kFail, 0, 0, 1, 3});
  collector.Add({Kind::kEmpty, 2, 50, 60, 60});
  collector.Add({Kind::kCancelled, 2, 50, 60, 65});
  collector.Add({Kind::kSuccess, ResponseStatisticsCollector::kMaxIndex, 0, 1, 1});
  const auto sums = collector.Snapshot();
  CHECK_EQ(sums.size(), size_t{3});
  CHECK_EQ(sums[0].success.count, uint64_t{2});
  CHECK_EQ(sums[0].success.ns, uint64_t{80});
  CHECK_EQ(sums[0].fail.ns, uint64_t{3});
  CHECK_EQ(sums[0].compute_infer.ns, uint64_t{61});
  CHECK_EQ(sums[0].compute_output.ns, uint64_t{22});
  CHECK_EQ(sums[1].success.count, uint64_t{0});
  CHECK_EQ(sums[2].empty_response.ns, uint64_t{10});
  CHECK_EQ(sums[2].compute_infer.count, uint64_t{1});
  CHECK_EQ(sums[2].cancel.ns, uint64_t{15});
}

}  // namespace
}  // namespace pyinfer
