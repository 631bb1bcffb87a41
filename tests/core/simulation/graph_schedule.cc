// SPDX-License-Identifier: Apache-2.0
#include "graph_schedule.h"

#include <algorithm>
#include <utility>

#include "specs.h"

namespace pyinfer::simulation {
namespace {

using testing::Names;

std::string Tensor(size_t tensor, size_t steps) {
  return tensor == 0 ? "X" : tensor == steps ? "Y" : "t" + std::to_string(tensor);
}

// What the model of a step answers.
int32_t Compute(size_t step, int32_t sum) { return sum + static_cast<int32_t>(step) * 3 + 1; }

}  // namespace

GraphSchedule::GraphSchedule(uint64_t seed, std::ostream* log) : random_(seed), log_(log, *works_.clock) {
  DrawGraph();
  done_.resize(parts_.size());
  for (size_t step = 0; step < parts_.size(); ++step) Replace(step);
  std::vector<EnsembleStep> steps;
  for (size_t step = 0; step < parts_.size(); ++step) {
    EnsembleStep one{parts_[step].name, -1, {}, {{"OUT", Tensor(step + 1, parts_.size())}}};
    for (size_t i = 0; i < inputs_[step].size(); ++i) {
      one.inputs.emplace_back("I" + std::to_string(i), Tensor(inputs_[step][i], parts_.size()));
    }
    steps.push_back(std::move(one));
  }
  max_inflight_ = random_.Of<size_t>({0, 0, 1, 3});
  log_("max_inflight_requests ", max_inflight_);
  ensemble_ = works_.Ensemble({"X"}, {"Y"}, std::move(steps), false, max_inflight_);
}

// Every tensor is used: the last step takes what no other one does.
void GraphSchedule::DrawGraph() {
  const size_t steps = 1 + random_.Below(5);
  std::vector<bool> used(steps, false);
  for (size_t step = 0; step < steps; ++step) {
    std::vector<size_t> inputs;
    for (size_t tensor = 0; tensor <= step; ++tensor) {
      const bool last = step + 1 == steps;
      if (last ? !used[tensor] || random_.Chance(20) : random_.Chance(50)) inputs.push_back(tensor);
    }
    if (inputs.empty()) inputs.push_back(random_.Below(step + 1));
    for (const size_t tensor : inputs) used[tensor] = true;
    inputs_.push_back(inputs);
    Names names;
    for (size_t i = 0; i < inputs.size(); ++i) names.push_back("I" + std::to_string(i));
    ModelSpec spec = testing::Works::Spec("p" + std::to_string(step), names, {"OUT"});
    spec.batching.max_batch_size = random_.Of<int64_t>({1, 2, 8});
    spec.batching.max_queue_delay_ns = random_.Of<int64_t>({0, 0, 5}) * kUs;
    spec.queue.default_policy.default_timeout_ns = random_.Of<int64_t>({0, 0, 0, 30}) * kUs;
    spec.queue.default_policy.allow_timeout_override = true;
    timeouts_ = timeouts_ || spec.queue.default_policy.default_timeout_ns != 0;
    parts_.push_back(std::move(spec));
    if (log_.out() != nullptr)
      *log_.out() << "p" << step << " takes " << inputs.size() << " tensors; " << Describe(parts_.back());
  }
}

int32_t GraphSchedule::Value(size_t tensor, int32_t x) const {
  if (tensor == 0) return x;
  int32_t sum = 0;
  for (const size_t input : inputs_[tensor - 1]) sum += Value(input, x);
  return Compute(tensor - 1, sum);
}

void GraphSchedule::Replace(size_t step) {
  log_("model of step ", step, " comes");
  for (const Worker& worker : workers_) {
    if (worker.step == step) worker.model->Drain(std::chrono::nanoseconds(0));
  }
  Worker worker;
  worker.step = step;
  worker.model = works_.Publish(parts_[step]);
  CHECK_EQ(worker.model->AddInstance(), size_t{0});
  workers_.push_back(std::move(worker));
}

void GraphSchedule::Run() {
  for (size_t events = 5 + random_.Below(60); events != 0; --events) {
    Step();
    CheckStep();
  }
  Settle();
}

void GraphSchedule::Step() {
  const size_t what = random_.Below(100);
  if (what < 25) return Ask(-1);
  if (what < 30) return Ask(static_cast<int>(random_.Below(parts_.size())));
  if (what < 33) return Cancel();
  if (what < 45) return works_.clock->Advance(random_.Of<int64_t>({1, 2, 5, 20}) * kUs);
  if (what < 47) return Replace(random_.Below(parts_.size()));
  Worker& worker = workers_[random_.Below(workers_.size())];
  return worker.batch ? Finish(worker) : Take(worker);
}

void GraphSchedule::Ask(int step) {
  const auto x = static_cast<int32_t>(random_.Below(1000));
  Root root;
  root.sink = std::make_shared<testing::KeepingSink>();
  root.step = step;
  RequestPtr request = works_.Request(root.sink, x);
  request->id = std::to_string(roots_.size());
  request->timeout_us = random_.Of<uint64_t>({0, 0, 0, 10, 40});
  root.value = Value(parts_.size(), x);
  if (step >= 0) {
    const auto& part = parts_[static_cast<size_t>(step)];
    request->model_name = part.name;
    const Slice data = request->inputs[0].data;
    request->inputs.clear();
    for (const TensorSpec& input : part.inputs) request->inputs.push_back({input.name, DType::kInt32, {1, 1}, data});
    root.value = Compute(static_cast<size_t>(step), x * static_cast<int32_t>(part.inputs.size()));
    root.queued = true;
    const int64_t allowed = part.queue.default_policy.default_timeout_ns;
    const auto own = static_cast<int64_t>(request->timeout_us) * kUs;
    if (allowed != 0) root.deadline = works_.clock->Now() + (own == 0 ? allowed : std::min(allowed, own));
  }
  log_("ask ", roots_.size(), " of ", step);
  roots_.push_back(root);
  works_.engine->Submit(std::move(request));
  works_.engine->Dispatch();
}

void GraphSchedule::Cancel() {
  if (roots_.empty()) return;
  const size_t index = random_.Below(roots_.size());
  Root& root = roots_[index];
  if (root.sink->answers != 0) return;
  log_("cancel ", index);
  abandoned_ = true;
  root.sink->cancel = true;
  works_.engine->NoteCancellation();
  works_.engine->Dispatch();
  // At once, though all instances may be busy.
  if (root.step < 0 || root.queued) testing::CheckFailed(root.sink, Code::kCancelled, "");
}

void GraphSchedule::Take(Worker& worker) {
  Batch batch = worker.model->TakeNow(0);
  if (batch.empty()) return;
  log_("a model of step ", worker.step, " takes ", batch.size());
  CHECK(batch.rows() <= parts_[worker.step].batching.max_batch_size);
  for (size_t i = 0; i < batch.size(); ++i) {
    const Request& request = batch.request(i);
    CHECK(!request.cancelled());
    CHECK_EQ(roots_[Index(request)].sink->answers.load(), 0);
    roots_[Index(request)].queued = false;
    CHECK(request.queue_deadline == 0 || request.queue_deadline > works_.clock->Now());
  }
  worker.batch.emplace(std::move(batch));
}

void GraphSchedule::Finish(Worker& worker) {
  Batch batch = std::move(*worker.batch);
  worker.batch.reset();
  log_("a model of step ", worker.step, " finishes");
  std::vector<size_t> failed;
  for (size_t i = 0; i < batch.size(); ++i) {
    const size_t index = Index(batch.request(i));
    if (roots_[index].step < 0) ++done_[worker.step];
    if (random_.Chance(97)) {
      int32_t sum = 0;
      for (size_t input = 0; input < batch.request(i).inputs.size(); ++input)
        sum += testing::Works::In(batch, i, input);
      testing::Works::Respond(batch, i, {Compute(worker.step, sum)});
      continue;
    }
    log_("  ", index, " fails");
    if (roots_[index].sink->answers == 0) failed.push_back(index);
    roots_[index].failed = true;
    batch.Fail(i, Status::Unavailable("refused"));
  }
  batch.Finish();
  abandoned_ = abandoned_ || !failed.empty();
  // At once, whatever else of the request is under way.
  for (const size_t index : failed) {
    CHECK_EQ(roots_[index].sink->answers.load(), 1);
    CHECK(roots_[index].sink->message().find("refused") != std::string::npos);
  }
}

void GraphSchedule::CheckStep() {
  works_.engine->Dispatch();
  size_t open = 0;
  std::vector<size_t> direct(parts_.size());
  for (size_t i = 0; i < roots_.size(); ++i) {
    const Root& root = roots_[i];
    const int answers = root.sink->answers.load();
    CHECK(answers <= 1);
    if (answers == 0) {
      ++open;
      CHECK(!root.queued || root.deadline == 0 || root.deadline > works_.clock->Now());
      if (root.step >= 0) ++direct[static_cast<size_t>(root.step)];
    } else if (root.sink->code() == Code::kOk) {
      CHECK(!root.failed || root.sink->cancel);
      CHECK_EQ(testing::IntsOf(root.sink->response.outputs.at(0).data).at(0), root.value);
    } else {
      const std::string& message = root.sink->message();
      const bool expired = timeouts_ && message.find("Request timeout expired") != std::string::npos;
      CHECK(root.failed || root.sink->cancel || expired);
      abandoned_ = true;
    }
  }
  std::vector<size_t> with_model(parts_.size());
  bool idle = true;
  for (const Worker& worker : workers_) {
    with_model[worker.step] += worker.model->in_flight();
    idle = idle && worker.model->in_flight() == 0;
  }
  if (idle) CHECK_EQ(open, size_t{0});
  if (max_inflight_ == 0 || abandoned_) return;
  for (size_t step = 0; step < parts_.size(); ++step) {
    CHECK(with_model[step] <= max_inflight_ + direct[step]);
    // What a step has answered keeps its place there until the step that takes nothing else has it.
    if (inputs_[step].size() != 1 || inputs_[step][0] == 0) continue;
    const size_t before = inputs_[step][0] - 1;
    const size_t begun = done_[step] + with_model[step] - direct[step];
    CHECK(done_[before] >= begun);
    CHECK(done_[before] - begun + with_model[before] - direct[before] <= max_inflight_);
  }
}

void GraphSchedule::Settle() {
  log_("settle");
  const auto open = [](const Root& root) { return root.sink->answers == 0; };
  const auto busy = [](const Worker& worker) { return worker.model->in_flight() != 0; };
  for (size_t round = 0;
       std::any_of(roots_.begin(), roots_.end(), open) || std::any_of(workers_.begin(), workers_.end(), busy);
       ++round) {
    CHECK(round < 1000);
    for (Worker& worker : workers_) {
      if (worker.batch) Finish(worker);
      CheckStep();
      Take(worker);
      CheckStep();
    }
    works_.clock->Advance(5 * kUs);
  }
  CHECK_EQ(ensemble_->in_flight(), size_t{0});
  CHECK_EQ(works_.engine->in_flight(), size_t{0});
  CHECK_EQ(ensemble_->pending(), size_t{0});
}

}  // namespace pyinfer::simulation
