// SPDX-License-Identifier: Apache-2.0
#include "slo_schedule.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

namespace pyinfer::simulation {
namespace {

constexpr TimeNs kUs = 1000;

}  // namespace

SloSchedule::SloSchedule(uint64_t seed, std::ostream* log)
    : random_(seed), clock_(std::make_shared<ManualClock>(1000 * kUs)), log_(log, *clock_) {
  BatchOptions batching;
  batching.max_batch_size = random_.Of<int64_t>({0, 1, 4, 8, 16});
  batching.dynamic = batching.max_batch_size > 0;
  ModelSpec spec = testing::IntModel(batching);
  slo_ = random_.Of<TimeNs>({10, 50, 200}) * kUs;
  spec.queue.latency_slo_ns = slo_;
  if (random_.Chance(30)) {
    spec.queue.priority_levels = 2;
    spec.queue.default_priority_level = 2;
  }
  model_ = Model::Create(std::move(spec), clock_);
  for (size_t count = 1 + random_.Below(3); count != 0; --count) {
    instances_.push_back({model_->AddInstance(), std::nullopt, {}});
  }
  log_("SLO ", slo_, ", at most ", batching.max_batch_size, " rows, instances ", instances_.size());
}

void SloSchedule::Run() {
  for (size_t steps = 20 + random_.Below(150); steps != 0; --steps) {
    Step();
    CheckAnswers();
  }
  Settle();
}

void SloSchedule::Step() {
  const size_t what = random_.Below(1000);
  if (what < 380) return Push();
  if (what < 420) return Cancel();
  if (what < 600) {
    const TimeNs by = random_.Of<TimeNs>({1, 1, 2, 5, 20, 100}) * kUs;
    log_("advance by ", by);
    return clock_->Advance(by);
  }
  if (what < 930) {
    Instance& instance = instances_[random_.Below(instances_.size())];
    return instance.batch ? Finish(instance) : Take(instance);
  }
  if (what < 970) {
    log_("expire");
    const TimeNs next = model_->Expire(clock_->Now());
    for (const size_t number : Waiting()) CHECK(next != 0 && next <= sent_[number].due);
    return;
  }
  if (what < 995) {
    log_("reap");
    model_->Reap();
    for (const size_t number : Waiting()) CHECK(!sent_[number].sink->cancel);
  } else if (what < 998) {
    log_("drain");
    closed_ = true;
    model_->Drain(std::chrono::nanoseconds(0));
  } else {
    log_("stop");
    closed_ = stopped_ = true;
    model_->Stop();
  }
}

void SloSchedule::Push() {
  Sent sent;
  const bool batched = model_->spec()->has_batch_dimension();
  const auto most = static_cast<size_t>(std::max<int64_t>(1, model_->spec()->batching.max_batch_size));
  sent.rows = !batched || random_.Chance(70) ? 1 : 1 + static_cast<int64_t>(random_.Below(most));
  sent.width = random_.Chance(90) ? 1 : 2;
  sent.sink = std::make_shared<testing::KeepingSink>();
  const size_t number = sent_.size();
  RequestPtr request =
      testing::IntRequest(model_->spec(), sent.sink, sent.rows, sent.width, static_cast<int32_t>(number));
  request->id = std::to_string(number);
  request->timeout_us = random_.Of<uint64_t>({0, 0, 0, 3, 20, 1000});
  request->priority = random_.Below(4);
  const bool known = request->priority != 0 && request->priority <= model_->spec()->queue.priority_levels;
  sent.level = known ? request->priority : model_->spec()->queue.default_priority_level;
  sent.due = clock_->Now() + slo_;
  if (request->timeout_us != 0) {
    sent.due = std::min(sent.due, clock_->Now() + static_cast<TimeNs>(request->timeout_us) * kUs);
  }
  log_("push ", number, ": ", sent.rows, " x ", sent.width, ", level ", sent.level, ", due ", sent.due);
  const bool alone = idle() && Waiting().empty();
  sent_.push_back(sent);
  model_->Push(std::move(request));
  if (sent.sink->answers == 0) return;
  const bool shed = sent.sink->message().find("is over capacity") != std::string::npos;
  CHECK(shed || closed_);
  if (!shed) return;
  CHECK(!alone && !closed_);
  ++shed_;
}

void SloSchedule::Cancel() {
  const std::vector<size_t> waiting = Waiting();
  if (waiting.empty()) return;
  const size_t number = waiting[random_.Below(waiting.size())];
  log_("cancel ", number);
  sent_[number].sink->cancel = true;
}

bool SloSchedule::idle() const {
  return std::none_of(instances_.begin(), instances_.end(), [](const Instance& i) { return i.batch.has_value(); });
}

std::vector<size_t> SloSchedule::Waiting() const {
  std::vector<size_t> waiting;
  for (size_t i = 0; i < sent_.size(); ++i) {
    if (!sent_[i].running && sent_[i].sink->answers == 0) waiting.push_back(i);
  }
  return waiting;
}

void SloSchedule::Take(Instance& instance) {
  const std::vector<size_t> before = Waiting();
  const TimeNs now = clock_->Now();
  Batch batch = model_->TakeNow(instance.number);
  std::vector<size_t> taken;
  for (size_t i = 0; i < batch.size(); ++i) taken.push_back(static_cast<size_t>(std::stoi(batch.request(i).id)));
  log_("instance ", instance.number, " takes ", taken.size());
  if (batch.empty()) {
    // Who was alone on an idle model, and in time, has gone.
    const bool alone = before.size() == 1 && idle() && sent_[before[0]].due > now && !sent_[before[0]].sink->cancel;
    CHECK(!alone || sent_[before[0]].sink->answers == 1);
    return CheckWait(model_->RipeAt(instance.number, now));
  }
  for (const size_t number : taken) sent_[number].running = true;
  CheckBatch(taken);
  instance.batch.emplace(std::move(batch));
  instance.taken = std::move(taken);
}

void SloSchedule::CheckBatch(const std::vector<size_t>& taken) {
  const TimeNs now = clock_->Now();
  int64_t rows = 0;
  const Sent& last = sent_[taken.back()];
  for (const size_t number : taken) {
    const Sent& sent = sent_[number];
    CHECK(sent.sink->answers == 0 && !sent.sink->cancel);
    CHECK(sent.due > now);
    CHECK_EQ(sent.width, sent_[taken[0]].width);
    rows += sent.rows;
  }
  const int64_t most = std::max<int64_t>(1, model_->spec()->batching.max_batch_size);
  CHECK(rows <= most && (model_->spec()->batching.dynamic || taken.size() == 1));
  for (const size_t number : Waiting()) {
    const Sent& sent = sent_[number];
    CHECK(std::tie(last.level, last.due) <= std::tie(sent.level, sent.due));
  }
}

// An instance is free and has taken nothing.
void SloSchedule::CheckWait(TimeNs until) {
  const std::vector<size_t> waiting = Waiting();
  CHECK_EQ(waiting.empty(), until < 0);
  if (waiting.empty()) return;
  CHECK(!closed_);
  CHECK(until > clock_->Now());
  CHECK(!(waiting.size() == 1 && idle()));
  for (const size_t number : waiting) CHECK(until < clock_->Now() + slo_ || sent_[number].due > until);
}

void SloSchedule::Finish(Instance& instance) {
  log_("instance ", instance.number, " finishes");
  Batch batch = std::move(*instance.batch);
  instance.batch.reset();
  for (size_t i = 0; i < batch.size(); ++i) {
    const Sent& sent = sent_[instance.taken[i]];
    const bool batched = model_->spec()->has_batch_dimension();
    const Shape shape = batched ? Shape{sent.rows, 1} : Shape{1};
    const std::vector<int32_t> values(static_cast<size_t>(sent.rows), static_cast<int32_t>(instance.taken[i]));
    batch.Respond(i, {{"OUT", DType::kInt32, shape, testing::Ints(values)}}, {});
  }
  batch.Finish();
  for (const size_t number : instance.taken) {
    const Sent& sent = sent_[number];
    CHECK_EQ(sent.sink->answers.load(), 1);
    CHECK_EQ(sent.sink->message(), "");
    CHECK_EQ(testing::IntsOf(sent.sink->response.outputs.at(0).data).at(0), static_cast<int32_t>(number));
  }
}

void SloSchedule::CheckAnswers() {
  size_t open = 0;
  for (size_t i = 0; i < sent_.size(); ++i) {
    Sent& sent = sent_[i];
    CHECK(sent.sink->answers <= 1);
    if (sent.sink->answers == 0) ++open;
    if (!sent.open || sent.sink->answers == 0) continue;
    sent.open = false;
    if (sent.running) continue;  // looked at when it finished
    const std::string& said = sent.sink->message();
    log_("  ", i, ": ", said);
    if (said == "Request timeout expired") {
      ++given_up_;
      CHECK(sent.sink->code() == Code::kUnavailable && sent.sink->reason == FailureReason::kRejected);
    } else if (sent.sink->code() == Code::kCancelled) {
      CHECK(sent.sink->cancel && sent.sink->reason == FailureReason::kCancelled);
    } else {
      CHECK(sent.sink->code() == Code::kUnavailable && sent.sink->reason == FailureReason::kRejected);
      const bool shed = said.find("is over capacity") != std::string::npos;
      const bool unloaded = stopped_ && said == "the model 'm' is being unloaded";
      CHECK(shed || unloaded || (closed_ && said.find("Server is stopping") == 0));
    }
  }
  CHECK_EQ(model_->in_flight(), open);
  CHECK_EQ(model_->pending(), Waiting().size());
  const SloReport report = *model_->Slo();
  CHECK_EQ(report.shed, shed_);
  CHECK_EQ(report.given_up, given_up_);
}

// All that waits goes, is cancelled or comes to its time.
void SloSchedule::Settle() {
  log_("settle");
  for (size_t round = 0; !Waiting().empty(); ++round) {
    CHECK(round < 2000);
    for (Instance& instance : instances_) {
      if (instance.batch) Finish(instance);
      CheckAnswers();
      Take(instance);
      CheckAnswers();
    }
    clock_->Advance(kUs);
  }
  for (Instance& instance : instances_) {
    if (instance.batch) Finish(instance);
  }
  CheckAnswers();
  CHECK_EQ(model_->in_flight(), size_t{0});
}

}  // namespace pyinfer::simulation
