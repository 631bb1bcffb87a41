// SPDX-License-Identifier: Apache-2.0
#include "schedule.h"

#include <algorithm>
#include <utility>

#include "infer/validate.h"
#include "specs.h"

namespace pyinfer::simulation {
namespace {

std::unique_ptr<Rules> MakeRules(const ModelSpec& spec) {
  return spec.sequence ? MakeSequenceRules(spec) : MakeDynamicRules(spec);
}

}  // namespace

Schedule::Schedule(uint64_t seed, std::ostream* log)
    : random_(seed), clock_(std::make_shared<ManualClock>(1000 * kUs)), log_(log, *clock_) {
  ModelSpec spec = DrawSpec(random_);
  if (log_.out() != nullptr) *log_.out() << Describe(spec);
  model_ = Model::Create(std::move(spec), clock_, std::make_shared<LocalCache>(size_t{1} << 30));
  rules_ = MakeRules(*model_->spec());
  sent_.reserve(256);
  instances_.reserve(64);
}

void Schedule::Run() {
  AddInstance();
  for (size_t more = random_.Below(3); more != 0; --more) AddInstance();
  for (size_t steps = 5 + random_.Below(60); steps != 0; --steps) {
    Step();
    CheckStep();
  }
  Settle();
  CheckCounts();
}

void Schedule::Step() {
  const size_t what = random_.Below(1000);
  if (what < 300) return Push();
  if (what < 350) {
    for (size_t burst = 2 + random_.Below(8); burst != 0; --burst) Push();
    return;
  }
  if (what < 410) return Cancel();
  if (what < 550) return Advance();
  if (what < 760) {
    Instance& instance = instances_[random_.Below(instances_.size())];
    return instance.batch ? Finish(instance) : Take(instance);
  }
  if (what < 850 && !apart_.empty()) return Respond(random_.Below(apart_.size()), random_.Chance(50));
  if (what < 900) {
    log_("expire");
    rules_->Expire(clock_->Now());
    model_->Expire(clock_->Now());
  } else if (what < 940) {
    log_("reap");
    rules_->Reap(clock_->Now());
    model_->Reap();
  } else if (what < 960) {
    AddInstance();
  } else if (what < 980) {
    RemoveInstance();
  } else if (what < 986) {
    Drain();
  } else if (what < 989) {
    Stop();
  }
}

Asked Schedule::Draw() {
  const ModelSpec& spec = *model_->spec();
  Asked asked;
  asked.number = static_cast<int>(sent_.size());
  asked.at = clock_->Now();
  asked.width = random_.Chance(85) ? 1 : 2;
  if (spec.padding) asked.width = 1 + static_cast<int64_t>(random_.Below(8));
  asked.more = random_.Chance(8);
  // One that is cached is asked the same again and again.
  asked.value = spec.cached ? static_cast<int32_t>(random_.Below(5)) : asked.number;
  asked.timeout_us = random_.Of<uint64_t>({0, 0, 1, 2, 5, 20, 100});
  if (iterative()) {
    asked.sequence = (uint64_t{1} << 63) + iterations_++;
    asked.start = true;
    return asked;
  }
  if (spec.sequence) {
    asked.sequence = 1 + random_.Below(5);
    asked.start = random_.Chance(35);
    asked.end = random_.Chance(25);
    return asked;
  }
  const auto most = static_cast<size_t>(std::max<int64_t>(1, spec.batching.max_batch_size));
  asked.rows = random_.Chance(60) ? 1 : 1 + static_cast<int64_t>(random_.Below(most));
  asked.priority = random_.Below(spec.queue.priority_levels + 2);
  return asked;
}

RequestPtr Schedule::Make(const Asked& asked, const testing::SinkPtr& sink) const {
  RequestPtr request = testing::IntRequest(model_->spec(), sink, asked.rows, asked.width, asked.value);
  if (asked.more) {
    request->inputs.push_back(request->inputs.front());
    request->inputs.back().name = "MORE";
  }
  request->id = std::to_string(asked.number);
  request->priority = asked.priority;
  request->timeout_us = asked.timeout_us;
  request->timeline.received = asked.at;
  if (iterative()) return request;
  request->correlation_id.number = asked.sequence;
  request->flags = (asked.start ? kSequenceStart : 0) | (asked.end ? kSequenceEnd : 0);
  if (model_->spec()->padding) CHECK(ValidateRequest(*request).ok());
  return request;
}

void Schedule::Push() {
  const Asked asked = Draw();
  log_("push ", asked.number, ": ", asked.value, " x ", asked.rows, " x ", asked.width, asked.more ? " +" : "",
       ", priority ", asked.priority, ", timeout ", asked.timeout_us * kUs, ", sequence ", asked.sequence,
       asked.start ? " START" : "", asked.end ? " END" : "");
  auto sink = std::make_shared<testing::KeepingSink>(asked.number, &order_);
  RequestPtr request = Make(asked, sink);
  sent_.push_back({asked, sink, 0, asked.width});
  open_.push_back(asked.number);
  if (!model_->spec()->sequence) JoinLine(0, asked.number);
  // A hit never gets to the queue: what is full, closed or late does not matter to it.
  const bool hit = kept_.count(KeyOf(asked)) != 0;
  const End end = hit ? End::kNone : rules_->Push(asked);
  model_->Push(std::move(request));
  if (hit) return ExpectHit(asked.number);
  if (random_.Chance(50)) model_->Dispatch();
  const std::string id = "[request id: " + std::to_string(asked.number) + "] ";
  if (end == End::kFull) {
    ExpectFailure(asked.number, Code::kUnavailable, id + "Exceeds maximum queue size", FailureReason::kRejected);
  } else if (end == End::kClosed) {
    ExpectFailure(asked.number, Code::kUnavailable,
                  "Server is stopping, scheduler for model has stopped accepting new inference requests",
                  FailureReason::kRejected);
  } else if (end == End::kNoStart) {
    ExpectFailure(asked.number, Code::kInvalidArg,
                  "inference request for sequence " + std::to_string(asked.sequence) +
                      " to model 'm' must specify the START flag on the first request of the sequence",
                  FailureReason::kOther);
  }
}

void Schedule::Cancel() {
  if (open_.empty()) return;
  const int number = open_[random_.Below(open_.size())];
  log_("cancel ", number);
  At(number).sink->cancel = true;
  rules_->Cancel(number);
}

void Schedule::Advance() {
  const Time by = random_.Of<Time>({1, 1, 2, 5, 10, 50}) * kUs - (random_.Chance(10) ? 1 : 0);
  clock_->Advance(by);
  log_("advance by ", by);
}

void Schedule::AddInstance() {
  Instance instance;
  instance.number = model_->AddInstance();
  CHECK_EQ(instance.number, instances_.size());
  rules_->AddInstance(clock_->Now());
  log_("instance ", instance.number, " comes");
  instances_.push_back(std::move(instance));
}

void Schedule::RemoveInstance() {
  Instance& instance = instances_[random_.Below(instances_.size())];
  if (instance.removed) return;
  log_("instance ", instance.number, " goes");
  instance.removed = true;
  model_->RemoveInstance(instance.number);
  rules_->RemoveInstance(instance.number);
}

void Schedule::Drain() {
  log_("drain");
  rules_->Close();
  CHECK_EQ(model_->Drain(std::chrono::nanoseconds(0)), open_.empty());
}

void Schedule::Stop() {
  log_("stop");
  rules_->FailAll();
  model_->Stop();
}

void Schedule::Take(Instance& instance) {
  const Time now = clock_->Now();
  if (instance.removed && rules_->Leaves(instance.number)) {
    rules_->Look(now);
    CHECK(model_->NextBatch(instance.number).empty());  // does not block
    return;
  }
  const std::optional<Time> ripe = rules_->RipeAt(instance.number, now);
  if (ripe) CHECK_EQ(model_->RipeAt(instance.number, now), *ripe);
  std::vector<int> rows = rules_->Take(instance.number, now);
  if (ripe) CHECK_EQ(*ripe == now, !rows.empty());
  log_("instance ", instance.number, " takes ", rows.size(), " from ", rows.empty() ? kEmptyRow : rows.front());
  // Where there must be a batch, the instance does not wait for it.
  const bool wait = ripe && !rows.empty() && random_.Chance(30);
  Batch batch = wait ? model_->NextBatch(instance.number) : model_->TakeNow(instance.number);
  CheckBatch(batch, rows);
  if (batch.empty()) return;
  for (const int number : rows) {
    if (model_->spec()->sequence && number != kEmptyRow) JoinLine(instance.number, number);
  }
  instance.batch.emplace(std::move(batch));
  instance.rows = std::move(rows);
}

// What is computed of padding is of no use.
std::vector<Tensor> Schedule::Output(const Sent& sent) const {
  const Asked& asked = sent.asked;
  const bool batched = model_->spec()->has_batch_dimension();
  const Shape shape = batched ? Shape{asked.rows, sent.width} : Shape{sent.width};
  std::vector<int32_t> values;
  for (int64_t i = 0; i < asked.rows * sent.width; ++i) {
    values.push_back(i % sent.width < asked.width ? asked.value * 2 : kPadding);
  }
  return {{"OUT", DType::kInt32, shape, testing::Ints(values)}};
}

// What an executor adds up over a sequence.
Tensor Schedule::NextState(int number) const {
  const Shape shape = model_->spec()->has_batch_dimension() ? Shape{1, 1} : Shape{1};
  return {"NEXT", DType::kInt32, shape, testing::Ints({states_.at(rules_->SequenceOf(number)) + number})};
}

void Schedule::Finish(Instance& instance) {
  Batch batch = std::move(*instance.batch);
  instance.batch.reset();
  ++counts_.executions;
  const std::vector<int> rows = std::exchange(instance.rows, {});
  log_("instance ", instance.number, " finishes");
  for (size_t i = rows.size(); i-- > 0;) {
    if (rows[i] != kEmptyRow) Answer(batch, i, rows[i]);
  }
  for (const int number : rows) {
    if (!iterative() || number == kEmptyRow) continue;
    if (again_.erase(number) != 0) {
      At(number).asked.start = false;
      rules_->Return(number, clock_->Now());
    } else {
      rules_->Release(number, clock_->Now());
    }
  }
  if (random_.Chance(80)) batch.Finish();
}

void Schedule::JoinLine(size_t line, int number) {
  if (model_->spec()->batching.preserve_ordering && LineOf(number) == nullptr) lines_[line].open.push_back(number);
}

Schedule::Line* Schedule::LineOf(int number) {
  for (auto& [at, line] : lines_) {
    if (std::find(line.open.begin(), line.open.end(), number) != line.open.end()) return &line;
  }
  return nullptr;
}

void Schedule::Answer(Batch& batch, size_t row, int number) {
  if (iterative() && random_.Chance(45)) {
    log_("  ", number, " is to run again");
    CHECK(batch.may_reschedule(row));
    std::shared_ptr<Responder> responder = model_->spec()->decoupled ? batch.Detach(row) : nullptr;
    for (size_t some = responder ? random_.Below(3) : 0; some != 0; --some) {
      CHECK(responder->Send(Output(At(number)), {}, false));
      ++At(number).partial;
    }
    CHECK(batch.Reschedule(row, responder.get()));
    again_.insert(number);
    return;
  }
  const size_t how = random_.Below(100);
  if (how < 75) {
    std::vector<Tensor> outputs = Output(At(number));
    if (batch.has_states()) {
      outputs.push_back(NextState(number));
      states_[rules_->SequenceOf(number)] += number;
    }
    batch.Respond(row, std::move(outputs), {});
    said_[number] = Said::kValue;
  } else if (how < 85 && !batch.has_states()) {
    apart_.push_back({batch.Detach(row), number});
  } else if (how < 93) {
    batch.Fail(row, Status::Unavailable("refused"));
    said_[number] = Said::kRefused;
  } else {
    said_[number] = Said::kNothing;
  }
}

void Schedule::Respond(size_t which, bool last) {
  Apart& apart = apart_[which];
  Sent& sent = At(apart.number);
  if (!last) {
    if (!apart.responder->decoupled()) return;
    log_("a response to ", apart.number);
    CHECK(apart.responder->Send(Output(sent), {}, false));
    ++sent.partial;
    return;
  }
  const size_t how = random_.Below(3);
  log_("the last response to ", apart.number);
  if (how == 0) {
    CHECK(apart.responder->Send(Output(sent), {}, true));
    said_[apart.number] = Said::kValue;
  } else if (how == 1) {
    CHECK(apart.responder->Fail(Status::Unavailable("refused"), true));
    said_[apart.number] = Said::kRefused;
  } else {
    apart.responder.reset();
    said_[apart.number] = Said::kDropped;
  }
  if (apart.responder) CHECK(!apart.responder->Send(Output(sent), {}, true));
  apart_.erase(apart_.begin() + static_cast<std::ptrdiff_t>(which));
}

void Schedule::Settle() {
  log_("settle");
  const bool all_gone = std::all_of(instances_.begin(), instances_.end(), [](const Instance& i) { return i.removed; });
  if (all_gone) AddInstance();
  if (random_.Chance(70)) Drain();
  // Every round makes room for the next sequence, or runs what is left; many more than can be needed.
  const auto runs = [&] {
    return std::any_of(instances_.begin(), instances_.end(), [](const Instance& i) { return i.batch.has_value(); });
  };
  for (size_t round = 0; rules_->waiting() != 0 || runs(); ++round) {
    CHECK(round < 2000);
    for (size_t i = 0; i < instances_.size(); ++i) {
      if (instances_[i].batch) Finish(instances_[i]);
      CheckStep();
      Take(instances_[i]);
      CheckStep();
    }
    Advance();
  }
  while (!apart_.empty()) Respond(0, true);
  CheckStep();
}

}  // namespace pyinfer::simulation
