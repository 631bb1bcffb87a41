// SPDX-License-Identifier: Apache-2.0
#include "producer_schedule.h"

#include <algorithm>
#include <utility>

#include "sched/rate_limiter.h"
#include "sched/responder.h"

namespace pyinfer::simulation {
namespace {

// Nobody has to be told: everything is looked at, all the time.
class Deaf final : public RoomListener {
 public:
  void OnRoom() noexcept override {}
};

std::vector<Tensor> Out(int32_t value) { return {{"OUT", DType::kInt32, {1, 1}, testing::Ints({value})}}; }

}  // namespace

ProducerSchedule::ProducerSchedule(uint64_t seed, std::ostream* log) : random_(seed), log_(log, *works_.clock) {
  if (random_.Chance(60)) {
    resources_ = 1 + random_.Below(3);
    limiter_ = std::make_shared<RateLimiter>(std::vector<ResourceTotal>{{"R", resources_}});
  }
  works_.engine->SetRateLimiter(limiter_);
  limit_ = 1 + random_.Below(2);
  to_itself_ = random_.Chance(15);
  log_("limit ", limit_, ", resources ", resources_, to_itself_ ? ", back to the producer" : "");
  AddModel("p", true);
  std::vector<EnsembleStep> steps = {{"p", -1, {{"IN", "X"}}, {{"OUT", "t0"}}}};
  const size_t count = 1 + random_.Below(3);
  for (size_t i = 0; i < count; ++i) {
    const bool last = i + 1 == count;
    behind_.push_back(last && to_itself_ ? "p" : "s" + std::to_string(i));
    if (behind_.back() != "p") AddModel(behind_.back(), false);
    steps.push_back(
        {behind_.back(), -1, {{"IN", "t" + std::to_string(i)}}, {{"OUT", last ? "Y" : "t" + std::to_string(i + 1)}}});
  }
  works_.Ensemble({"X"}, {"Y"}, std::move(steps), /*decoupled=*/true, limit_);
}

void ProducerSchedule::AddModel(const std::string& name, bool decoupled) {
  ModelSpec spec = testing::Works::Spec(name, {"IN"}, {"OUT"});
  spec.decoupled = decoupled;
  spec.batching.max_batch_size = random_.Of<int64_t>({1, 2});
  const auto model = works_.Publish(std::move(spec));
  for (size_t instances = 1 + random_.Below(2); instances != 0; --instances) {
    std::shared_ptr<LimitedInstance> limited;
    const uint64_t need = limiter_ && random_.Chance(80) ? 1 + random_.Below(resources_) : 0;
    if (need != 0) limited = limiter_->Enter({{{"R", false, need}}, 1, 0}).value();
    auto worker = std::make_unique<Worker>();
    worker->model = model;
    worker->number = model->AddInstance(std::move(limited));
    workers_.push_back(std::move(worker));
    log_("an instance of ", name, " needs ", need);
  }
}

void ProducerSchedule::Run() {
  for (size_t events = 10 + random_.Below(80); events != 0; --events) {
    Step();
    CheckStep();
  }
  Settle();
}

void ProducerSchedule::Step() {
  const size_t what = random_.Below(100);
  if (what < 12) return Ask();
  if (what < 14) return Cancel();
  if (what < 20) return works_.clock->Advance(random_.Of<int64_t>({1, 20}) * 1000);
  if (what < 60 && !producing_.empty()) return Respond(random_.Below(producing_.size()));
  Worker& worker = *workers_[random_.Below(workers_.size())];
  return worker.batch ? Finish(worker) : Take(worker);
}

void ProducerSchedule::Ask() {
  log_("ask ", roots_.size());
  roots_.push_back(works_.Ask(static_cast<int32_t>(roots_.size())));
}

void ProducerSchedule::Cancel() {
  if (roots_.empty()) return;
  const size_t index = random_.Below(roots_.size());
  if (roots_[index]->answers != 0) return;
  log_("cancel ", index);
  abandoned_ = true;
  roots_[index]->cancel = true;
  works_.engine->NoteCancellation();
  works_.engine->Dispatch();
  testing::CheckFailed(roots_[index], Code::kCancelled, "");
}

void ProducerSchedule::Take(Worker& worker) {
  Batch batch = worker.model->TakeNow(worker.number);
  if (batch.empty()) return;
  const std::string& name = worker.model->spec()->name;
  log_(name, " takes ", batch.size());
  const bool within = random_.Chance(50);
  worker.producing = 0;
  worker.batch.emplace(std::move(batch));
  if (!worker.model->spec()->decoupled) return;
  for (size_t i = 0; i < worker.batch->size(); ++i) {
    producing_.push_back({worker.batch->Detach(i), random_.Below(5), within ? &worker : nullptr, nullptr});
    if (within) ++worker.producing;
  }
}

void ProducerSchedule::Finish(Worker& worker) {
  if (worker.producing != 0) return;
  log_(worker.model->spec()->name, " finishes");
  Batch batch = std::move(*worker.batch);
  worker.batch.reset();
  for (size_t i = 0; i < batch.size(); ++i) {
    if (batch.detached(i)) continue;
    if (worker.model->spec()->name == behind_.front()) ++executed_;
    testing::Works::Respond(batch, i, {testing::Works::In(batch, i)});
  }
}

void ProducerSchedule::Respond(size_t which) {
  Producing& one = producing_[which];
  if (one.wait && !one.wait->over()) return;
  one.wait.reset();
  if (one.left != 0) {
    log_("a response, ", one.left, " left");
    --one.left;
    ++sent_;
    CHECK(one.responder->Send(Out(1), {}, false));
    one.wait = one.responder->AskForRoom(std::make_shared<Deaf>());
    return;
  }
  log_("the end of the responses");
  CHECK(one.responder->End());
  if (one.within != nullptr) --one.within->producing;
  producing_.erase(producing_.begin() + static_cast<std::ptrdiff_t>(which));
}

void ProducerSchedule::CheckStep() {
  works_.engine->Dispatch();
  for (const auto& root : roots_) CHECK(root->answers.load() <= 1);
  if (abandoned_ || to_itself_) return;
  for (const std::string& name : behind_) CHECK(works_.model(name).in_flight() <= limit_);
  if (limiter_) return;
  size_t waiting = 0;
  for (const Producing& one : producing_) waiting += one.wait && !one.wait->over() ? 1 : 0;
  CHECK(sent_ - executed_ - works_.model(behind_.front()).in_flight() <= waiting);
}

void ProducerSchedule::Settle() {
  log_("settle");
  const auto open = [](const testing::SinkPtr& root) { return root->answers == 0; };
  const auto busy = [](const auto& worker) { return worker->batch.has_value() || worker->model->in_flight() != 0; };
  for (size_t round = 0; std::any_of(roots_.begin(), roots_.end(), open) ||
                         std::any_of(workers_.begin(), workers_.end(), busy) || !producing_.empty();
       ++round) {
    CHECK(round < 2000);
    for (size_t i = producing_.size(); i-- > 0;) {
      Respond(i);
      CheckStep();
    }
    for (const auto& worker : workers_) {
      if (worker->batch) Finish(*worker);
      CheckStep();
      if (!worker->batch) Take(*worker);
      CheckStep();
    }
  }
  CHECK_EQ(works_.engine->in_flight(), size_t{0});
  CHECK_EQ(works_.engine->calls().yielding(), size_t{0});
}

}  // namespace pyinfer::simulation
