// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
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
  void OnResponse(Request&, const Status&) noexcept override { ++responses; }
  void OnAnswer(const Request&, const Status& status) noexcept override {
    ++answers;
    ok = status.ok();
  }
  int responses = 0;
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
  CHECK_EQ(f.observer->responses, 3);
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

}  // namespace
}  // namespace pyinfer
