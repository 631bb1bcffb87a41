// SPDX-License-Identifier: Apache-2.0
#include "limit_schedule.h"

#include <algorithm>
#include <utility>

#include "infer/padding.h"
#include "specs.h"

namespace pyinfer::simulation {
namespace {

const std::vector<std::string> kResources = {"a", "b", "g"};

bool IsGlobal(const std::string& resource) { return resource == "g"; }

}  // namespace

LimitSchedule::LimitSchedule(uint64_t seed, std::ostream* log)
    : random_(seed), clock_(std::make_shared<ManualClock>(1000 * kUs)), log_(log, *clock_) {
  std::vector<ResourceTotal> totals;
  if (random_.Chance(40)) {
    for (const std::string& resource : kResources) {
      limits_[resource] = random_.Below(5);
      totals.push_back({resource, limits_[resource], random_.Chance(50) ? 0 : ResourceTotal::kEveryDevice});
      log_("there is ", limits_[resource], " of ", resource);
    }
  }
  limiter_ = std::make_shared<RateLimiter>(totals);
  for (size_t count = 1 + random_.Below(3); count != 0; --count) {
    ModelSpec spec = DrawSpec(random_);
    if (log_.out() != nullptr) *log_.out() << "model " << models_.size() << ": " << Describe(spec);
    models_.push_back(Model::Create(std::move(spec), clock_));
    models_.back()->SetRateLimiter(limiter_);
    stopped_.push_back(false);
  }
  instances_.reserve(64);
}

void LimitSchedule::Run() {
  for (size_t model = 0; model < models_.size(); ++model) {
    for (size_t count = 1 + random_.Below(3); count != 0; --count) AddInstance(model);
  }
  for (size_t steps = 10 + random_.Below(80); steps != 0; --steps) {
    Step();
    CheckUses();
  }
  Settle();
}

void LimitSchedule::Step() {
  const size_t what = random_.Below(100);
  if (what < 35) return Push();
  if (what < 40) return Cancel();
  if (what < 50) {
    clock_->Advance(random_.Of<int64_t>({1, 2, 5, 20}) * kUs);
    return log_("advance");
  }
  if (what < 86 && !instances_.empty()) {
    Instance& instance = instances_[random_.Below(instances_.size())];
    if (instance.state == State::kRuns) return Finish(instance);
    if (!instance.gone) Take(instance);
    return;
  }
  const size_t model = random_.Below(models_.size());
  if (what < 91) {
    const bool reap = random_.Chance(50);
    log_(reap ? "reap" : "expire");
    if (reap) {
      models_[model]->Reap();
    } else {
      models_[model]->Expire(clock_->Now());
    }
    return Decide();
  }
  if (what < 94) return AddInstance(model);
  if (what < 97 && !instances_.empty()) return RemoveInstance(instances_[random_.Below(instances_.size())]);
  if (what < 98) Stop(model);
}

void LimitSchedule::Push() {
  Model& model = *models_[random_.Below(models_.size())];
  const ModelSpec& spec = *model.spec();
  auto sink = std::make_shared<testing::KeepingSink>();
  const auto most = static_cast<size_t>(std::max<int64_t>(1, spec.batching.max_batch_size));
  const int64_t rows = spec.sequence ? 1 : 1 + static_cast<int64_t>(random_.Below(most));
  RequestPtr request = testing::IntRequest(model.spec(), sink, rows);
  request->priority = random_.Below(spec.queue.priority_levels + 1);
  request->timeout_us = random_.Of<uint64_t>({0, 0, 0, 5, 50});
  if (spec.sequence) {
    request->correlation_id.number = 1 + random_.Below(4);
    request->flags = random_.Of<uint32_t>({kSequenceStart, kSequenceStart, 0, kSequenceStart | kSequenceEnd});
  }
  if (spec.padding) CHECK(MeasurePadding(*request).ok());
  log_("push ", sinks_.size(), " of ", rows);
  sinks_.push_back(sink);
  model.Push(std::move(request));
}

void LimitSchedule::Cancel() {
  if (sinks_.empty()) return;
  const size_t which = random_.Below(sinks_.size());
  log_("cancel ", which);
  sinks_[which]->cancel = true;
}

// --- instances ---

void LimitSchedule::AddInstance(size_t model) {
  Instance instance;
  instance.model = model;
  instance.priority = static_cast<uint32_t>(random_.Below(4));
  InstanceLimits limits;
  limits.priority = instance.priority;
  bool possible = true;
  for (const std::string& resource : kResources) {
    if (!random_.Chance(50)) continue;
    instance.needs[resource] = random_.Below(4);
    limits.resources.push_back({resource, IsGlobal(resource), instance.needs[resource]});
    possible = possible && (limits_.empty() || instance.needs[resource] <= limits_[resource]);
  }
  if (stopped_[model]) return;
  std::shared_ptr<LimitedInstance> entered;
  if (!limits.resources.empty()) {
    auto limited = limiter_->Enter(limits);
    CHECK_EQ(limited.ok(), possible);
    if (!possible) return;
    entered = std::move(limited).value();
  }
  instance.number = models_[model]->AddInstance(std::move(entered));
  log_("instance ", instances_.size(), " of model ", model, " comes, priority ", instance.priority);
  for (const auto& [resource, count] : instance.needs) log_("  it needs ", count, " of ", resource);
  instances_.push_back(std::move(instance));
  Decide();
}

void LimitSchedule::RemoveInstance(Instance& instance) {
  if (instance.removed) return;
  log_("instance ", &instance - instances_.data(), " is to go");
  instance.removed = true;
  models_[instance.model]->RemoveInstance(instance.number);
  Decide();
}

void LimitSchedule::Leave(Instance& instance) {
  log_("instance ", &instance - instances_.data(), " goes");
  CHECK(models_[instance.model]->NextBatch(instance.number).empty());  // does not block
  instance.gone = true;
  instance.state = State::kIdle;
  Decide();
}

void LimitSchedule::Take(Instance& instance) {
  Model& model = *models_[instance.model];
  // The others of a model of sequences may still have some.
  if (stopped_[instance.model] || (instance.removed && !model.spec()->sequence)) return Leave(instance);
  if (!instance.needs.empty() && instance.state != State::kGranted) {
    if (instance.state == State::kIdle) {
      instance.state = State::kWaits;
      instance.asked = places_++;
    }
    Decide();
  }
  const bool may = instance.needs.empty() || instance.state == State::kGranted;
  Batch batch = model.TakeNow(instance.number);
  log_("instance ", &instance - instances_.data(), may ? " takes " : " may not take, gets ", batch.size());
  CHECK(may || batch.empty());
  if (may && batch.empty()) {
    CHECK(!IsRipe(instance));
    instance.state = State::kIdle;
  }
  if (!batch.empty()) {
    instance.state = State::kRuns;
    instance.batch.emplace(std::move(batch));
  }
  Decide();
}

void LimitSchedule::Finish(Instance& instance) {
  log_("instance ", &instance - instances_.data(), " finishes");
  Batch batch = std::move(*instance.batch);
  instance.batch.reset();
  if (random_.Chance(50)) batch.FailOpen(Status::Unavailable("refused"));
  batch.Finish();
  instance.state = State::kIdle;
  ++instance.executions;
  if (!instance.needs.empty() && IsRipe(instance)) {
    instance.state = State::kWaits;
    instance.asked = places_++;
  }
  Decide();
}

void LimitSchedule::Stop(size_t model) {
  log_("stop model ", model);
  models_[model]->Stop();
  stopped_[model] = true;
  Decide();
}

// --- the line ---

uint64_t LimitSchedule::Total(const std::string& resource) const {
  if (!limits_.empty()) return limits_.at(resource);
  uint64_t most = 0;
  for (const Instance& one : instances_) {
    const auto need = one.needs.find(resource);
    if (!one.gone && need != one.needs.end()) most = std::max(most, need->second);
  }
  return most;
}

uint64_t LimitSchedule::Needed(const std::string& resource, State state) const {
  uint64_t sum = 0;
  for (const Instance& one : instances_) {
    const auto need = one.needs.find(resource);
    if (one.state == state && need != one.needs.end()) sum += need->second;
  }
  return sum;
}

bool LimitSchedule::IsRipe(const Instance& instance) const {
  if (instance.removed && !models_[instance.model]->spec()->sequence) return false;
  return models_[instance.model]->RipeAt(instance.number, clock_->Now()) == clock_->Now();
}

bool LimitSchedule::IsBefore(const Instance& a, const Instance& b) const {
  const auto rank = [](const Instance& one) { return one.executions * std::max<uint64_t>(1, one.priority); };
  return rank(a) != rank(b) ? rank(a) < rank(b) : a.asked < b.asked;
}

void LimitSchedule::Decide() {
  std::vector<Instance*> line;
  for (Instance& one : instances_) {
    if (one.state == State::kWaits && !IsRipe(one)) one.state = State::kIdle;
    if (one.state == State::kWaits) line.push_back(&one);
  }
  std::sort(line.begin(), line.end(), [&](const Instance* a, const Instance* b) { return IsBefore(*a, *b); });
  std::map<std::string, uint64_t> kept;
  for (Instance* one : line) {
    bool fits = true;
    for (const auto& [resource, count] : one->needs) {
      const uint64_t used = Needed(resource, State::kGranted) + Needed(resource, State::kRuns) + kept[resource];
      fits = fits && used + count <= Total(resource);
    }
    if (fits) {
      one->state = State::kGranted;
      continue;
    }
    for (const auto& [resource, count] : one->needs) kept[resource] += count;
  }
}

void LimitSchedule::CheckUses() {
  const auto uses = limiter_->uses();
  for (const std::string& resource : kResources) {
    const auto found = uses.find({resource, IsGlobal(resource) ? ResourceLedger::kGlobal : 0});
    const auto use = found == uses.end() ? ResourceLedger::Use() : found->second;
    const auto needs = [&](const Instance& one) { return !one.gone && one.needs.count(resource) != 0; };
    if (std::any_of(instances_.begin(), instances_.end(), needs)) CHECK_EQ(use.total, Total(resource));
    CHECK_EQ(use.held, Needed(resource, State::kGranted) + Needed(resource, State::kRuns));
  }
}

void LimitSchedule::Settle() {
  log_("settle");
  const auto open = [](const testing::SinkPtr& sink) { return sink->answers == 0; };
  for (size_t model = 0; model < models_.size(); ++model) {
    const auto serves = [&](const Instance& one) { return one.model == model && !one.removed; };
    if (std::none_of(instances_.begin(), instances_.end(), serves)) Stop(model);
  }
  // Whoever waits has a turn before anybody else has many.
  for (size_t round = 0; std::any_of(sinks_.begin(), sinks_.end(), open); ++round) {
    CHECK(round < 2000);
    for (Instance& instance : instances_) {
      if (instance.state == State::kRuns) Finish(instance);
      if (!instance.gone) Take(instance);
      CheckUses();
    }
    clock_->Advance(5 * kUs);
    // What an instance that waits for work would do: sequences that are idle make room for others.
    for (const auto& model : models_) {
      model->Expire(clock_->Now());
      Decide();
    }
  }
  for (size_t model = 0; model < models_.size(); ++model) Stop(model);
  for (Instance& instance : instances_) {
    if (instance.state == State::kRuns) Finish(instance);
    if (!instance.gone) Leave(instance);
  }
  for (const testing::SinkPtr& sink : sinks_) CHECK_EQ(sink->answers.load(), 1);
  CHECK(limiter_->uses().empty());
}

}  // namespace pyinfer::simulation
