// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "engine/model.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::IntModel;
using testing::IntRequest;
using testing::Ints;
using testing::KeepingSink;
using testing::SinkPtr;

// A model of one instance whose requests are executed until they are answered.
struct Fixture {
  explicit Fixture(SequenceOptions::Strategy strategy = SequenceOptions::Strategy::kOldest, bool decoupled = false,
                   size_t slots = 2, bool ordered = false) {
    ModelSpec spec = IntModel({2, true, {2}, 0});
    spec.decoupled = decoupled;
    spec.batching.preserve_ordering = ordered;
    spec.sequence.emplace();
    spec.sequence->strategy = strategy;
    spec.sequence->slots = slots;
    spec.sequence->max_idle_ns = 1000;
    spec.sequence->iterative = true;
    const auto element = [](int32_t value) { return Slice::Copy(&value, sizeof(value)); };
    spec.sequence->controls = {
        {SequenceControl::Kind::kStart, "START", DType::kInt32, element(0), element(1)},
        {SequenceControl::Kind::kCorrelationId, "CORRID", DType::kUint64, {}, {}},
    };
    clock = std::make_shared<ManualClock>(1000);
    model = Model::Create(std::move(spec), clock);
    model->AddInstance();
  }
  ~Fixture() { model->Stop(); }

  SinkPtr Push(uint64_t sequence = 0, SinkPtr sink = std::make_shared<KeepingSink>()) {
    RequestPtr request = IntRequest(model->spec(), sink);
    request->correlation_id.number = sequence;
    request->flags = sequence == 0 ? 0 : kSequenceStart;
    model->Push(std::move(request));
    return sink;
  }

  Batch Take() { return model->TakeNow(0); }

  static void Answer(Batch& batch, size_t index) {
    batch.Respond(index, {{"OUT", DType::kInt32, {1, 1}, Ints({1})}}, {});
  }

  static bool Starts(const Batch& batch, size_t index) {
    CHECK_EQ(batch.request(index).inputs.size(), size_t{3});  // however often it was executed
    return testing::IntsOf(batch.request(index).inputs[1].data).at(0) == 1;
  }

  std::shared_ptr<ManualClock> clock;
  std::shared_ptr<Model> model;
};

TEST(Iterative, ARequestRunsAgainUntilItIsAnswered) {
  for (const auto strategy : {SequenceOptions::Strategy::kOldest, SequenceOptions::Strategy::kDirect}) {
    Fixture f(strategy);
    const SinkPtr sink = f.Push();
    uint64_t id = 0;
    for (int round = 0; round < 5; ++round) {
      Batch batch = f.Take();
      CHECK_EQ(batch.size(), size_t{1});
      CHECK(Fixture::Starts(batch, 0) == (round == 0));
      if (round == 0) id = batch.request(0).correlation_id.number;
      CHECK(id != 0 && batch.request(0).correlation_id.number == id);
      CHECK(batch.may_reschedule(0));
      CHECK(batch.Reschedule(0, nullptr));
      CHECK(!batch.may_reschedule(0));
      f.clock->Advance(5000);  // longer than a sequence may be idle
    }
    Batch last = f.Take();
    Fixture::Answer(last, 0);
    last.Finish();
    CHECK_EQ(sink->answers.load(), 1);
    CHECK_EQ(sink->message(), "");
    CHECK(f.Take().empty());
    CHECK_EQ(f.model->in_flight(), size_t{0});
    CHECK_EQ(f.model->Statistics().execution_count, uint64_t{6});
    CHECK_EQ(f.model->Statistics().inference_count, uint64_t{1});
  }
}

TEST(Iterative, OthersJoinBetweenRounds) {
  Fixture f;
  const SinkPtr first = f.Push();
  f.Take().Reschedule(0, nullptr);
  f.clock->Advance(1);
  const SinkPtr second = f.Push();
  const SinkPtr third = f.Push();  // no slot: it waits for one
  Batch batch = f.Take();
  CHECK_EQ(batch.size(), size_t{2});
  Fixture::Answer(batch, 0);
  batch.Reschedule(1, nullptr);
  batch.Finish();
  CHECK_EQ(first->answers.load(), 1);
  CHECK_EQ(second->answers.load(), 0);
  Batch next = f.Take();
  CHECK_EQ(next.size(), size_t{2});  // the slot was given to the third
  for (size_t i = 0; i < 2; ++i) Fixture::Answer(next, i);
  next.Finish();
  CHECK_EQ(second->answers.load() + third->answers.load(), 2);
}

TEST(Iterative, CancelledBetweenRounds) {
  Fixture f;
  const SinkPtr sink = f.Push();
  f.Take().Reschedule(0, nullptr);
  sink->cancel = true;
  f.model->Reap();
  CHECK_EQ(sink->answers.load(), 1);
  CHECK(sink->code() == Code::kCancelled);
  CHECK(f.Take().empty());
}

TEST(Iterative, AnErrorAfterRescheduleAnswers) {
  Fixture f;
  const SinkPtr sink = f.Push();
  Batch batch = f.Take();
  batch.Reschedule(0, nullptr);
  batch.FailOpen(Status::Internal("not this one"));
  batch.Fail(0, Status::Internal("this one"));
  batch.Finish();
  CHECK_EQ(sink->message(), "this one");
  CHECK(f.Take().empty());
}

TEST(Iterative, StoppedWhileItRuns) {
  Fixture f;
  const SinkPtr sink = f.Push();
  Batch batch = f.Take();
  batch.Reschedule(0, nullptr);
  f.model->Stop();
  batch.Finish();
  CHECK_EQ(sink->answers.load(), 1);
  CHECK(sink->code() == Code::kUnavailable);
}

TEST(Iterative, ItsOwnIdMayBeUsedAgain) {
  Fixture f;
  const SinkPtr first = f.Push(7);
  const SinkPtr second = f.Push(7);
  Batch batch = f.Take();
  CHECK_EQ(batch.size(), size_t{1});
  Fixture::Answer(batch, 0);
  batch.Finish();
  Batch next = f.Take();
  CHECK_EQ(next.size(), size_t{1});
  Fixture::Answer(next, 0);
  next.Finish();
  CHECK_EQ(first->message() + second->message(), "");
  CHECK_EQ(second->answers.load(), 1);
  f.Push(7);
  CHECK_EQ(f.Take().size(), size_t{1});
}

TEST(Iterative, ResponsesOfSeveralRounds) {
  Fixture f(SequenceOptions::Strategy::kOldest, /*decoupled=*/true);
  const SinkPtr sink = f.Push();
  for (int round = 0; round < 3; ++round) {
    Batch batch = f.Take();
    const std::shared_ptr<Responder> responder = batch.Detach(0);
    responder->Send({{"OUT", DType::kInt32, {1, 1}, Ints({round})}}, {}, /*final=*/round == 2);
    if (round == 2) {
      CHECK(!batch.Reschedule(0, responder.get()));  // too late
    } else {
      CHECK(batch.Reschedule(0, responder.get()));
      CHECK(!responder->Send({}, {}, false));
    }
  }
  CHECK_EQ(sink->partial.size(), size_t{2});
  CHECK_EQ(sink->answers.load(), 1);
  CHECK(f.Take().empty());
  f.Push();
  CHECK_EQ(f.Take().size(), size_t{1});
}

// Of a decoupled model in order.
struct Ordered : Fixture {
  explicit Ordered(size_t slots = 3) : Fixture(SequenceOptions::Strategy::kOldest, true, slots, true) {}

  // One round of the row `index`: so many responses, and then the last one or another round.
  static void Round(Batch& batch, size_t index, int responses, bool last) {
    const std::shared_ptr<Responder> responder = batch.Detach(index);
    for (int i = 0; i < responses; ++i) CHECK(responder->Send({{"OUT", DType::kInt32, {1, 1}, Ints({i})}}, {}, false));
    CHECK(last ? responder->End() : batch.Reschedule(index, responder.get()));
  }
};

TEST(Iterative, ARequestKeepsItsTurnFromRoundToRound) {
  Ordered f;
  const SinkPtr first = f.Push(), second = f.Push();
  const auto check = [&](size_t of_first, size_t of_second, int first_ended, int second_ended) {
    CHECK_EQ(first->partial.size(), of_first);
    CHECK_EQ(second->partial.size(), of_second);
    CHECK(first->answers == first_ended && second->answers == second_ended);
  };
  Batch batch = f.Take();
  Ordered::Round(batch, 1, 1, /*last=*/false);
  Ordered::Round(batch, 0, 1, /*last=*/false);
  batch.Finish();
  check(1, 0, 0, 0);
  batch = f.Take();
  Ordered::Round(batch, 1, 1, /*last=*/true);
  Ordered::Round(batch, 0, 1, /*last=*/false);
  batch.Finish();
  check(2, 0, 0, 0);
  CHECK_EQ(f.model->in_flight(), size_t{2});
  batch = f.Take();
  CHECK_EQ(batch.size(), size_t{1});
  Ordered::Round(batch, 0, 0, /*last=*/true);
  batch.Finish();
  check(2, 2, 1, 1);
}

// Its answer is out of turn and at once, and what was kept of its responses goes with it.
TEST(Iterative, WhoIsGivenUpBetweenRoundsHoldsNobodyUp) {
  Ordered f;
  const SinkPtr first = f.Push();
  Batch alone = f.Take();  // its turn is the first
  const SinkPtr second = f.Push(), third = f.Push();
  Batch batch = f.Take();
  Ordered::Round(batch, 0, 2, /*last=*/false);
  Ordered::Round(batch, 1, 1, /*last=*/true);
  batch.Finish();
  second->cancel = true;
  f.model->Reap();
  CHECK(second->answers == 1 && second->partial.empty());
  CHECK(second->code() == Code::kCancelled);
  CHECK(third->answers == 0 && third->partial.empty());
  Ordered::Round(alone, 0, 1, /*last=*/true);
  CHECK(first->answers == 1 && third->answers == 1);
  CHECK_EQ(third->partial.size(), size_t{1});
}

// Gives up with the first response that it gets.
struct Leaver final : KeepingSink {
  explicit Leaver(Model& its) : model(its) {}
  void Send(const Request& request, Response response, bool final) noexcept override {
    KeepingSink::Send(request, std::move(response), final);
    if (final) return;
    cancel = true;
    model.Reap();
    CHECK_EQ(answers.load(), 0);  // never two at a time
  }
  Model& model;
};

TEST(Iterative, WhoIsGivenUpWhileAResponseLeavesIsAnsweredBehindIt) {
  Ordered f;
  const SinkPtr first = f.Push();
  Batch alone = f.Take();
  const auto leaver = std::make_shared<Leaver>(*f.model);
  f.Push(0, leaver);
  Batch batch = f.Take();
  Ordered::Round(batch, 0, 3, /*last=*/false);
  batch.Finish();
  Ordered::Round(alone, 0, 0, /*last=*/true);
  CHECK_EQ(first->answers.load(), 1);
  CHECK_EQ(leaver->partial.size(), size_t{1});
  CHECK_EQ(leaver->answers.load(), 1);
  CHECK(leaver->code() == Code::kCancelled);
  CHECK_EQ(f.model->in_flight(), size_t{0});
}

// Rounds go on while other threads end what was before, and clients leave.
TEST(Iterative, TurnsUnderAStorm) {
  Ordered f(4);
  constexpr size_t kRequests = 400;
  std::vector<SinkPtr> sinks;
  for (size_t i = 0; i < kRequests; ++i) sinks.push_back(f.Push());
  std::mutex mutex;
  std::vector<std::shared_ptr<Responder>> late;
  std::atomic<bool> over{false};
  std::thread ender([&] {
    for (bool last = false; !last;) {
      last = over;
      std::vector<std::shared_ptr<Responder>> some;
      {
        std::lock_guard<std::mutex> lock(mutex);
        some.swap(late);
      }
      for (const auto& responder : some) responder->End();
      std::this_thread::yield();
    }
  });
  std::thread client([&] {
    for (size_t i = 7; i < kRequests; i += 7) {
      sinks[i]->cancel = true;
      f.model->Reap();
    }
  });
  std::mt19937 random(1);
  while (f.model->pending() != 0) {
    Batch batch = f.Take();
    for (size_t i = 0; i < batch.size(); ++i) {
      if (random() % 3 != 0) {
        Ordered::Round(batch, i, static_cast<int>(random() % 3), /*last=*/random() % 3 == 0);
        continue;
      }
      std::lock_guard<std::mutex> lock(mutex);
      late.push_back(batch.Detach(i));
    }
  }
  client.join();
  over = true;
  ender.join();
  CHECK_EQ(f.model->in_flight(), size_t{0});
  for (const SinkPtr& sink : sinks) CHECK_EQ(sink->answers.load(), 1);
}

}  // namespace
}  // namespace pyinfer
