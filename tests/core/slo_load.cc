// SPDX-License-Identifier: Apache-2.0
#include "slo_load.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "engine/model.h"
#include "scheduling.h"
#include "simulation/random.h"

namespace pyinfer::testing {
namespace {

constexpr double kNsInMs = 1e6;

double Uniform(simulation::Random& random) { return static_cast<double>(random.Next() >> 11) * 0x1p-53; }
double Exponential(simulation::Random& random, double mean) { return -std::log(1 - Uniform(random)) * mean; }

std::vector<TimeNs> Arrivals(const SloScenario& scenario, simulation::Random& random) {
  const LoadShape& load = scenario.load;
  std::vector<TimeNs> arrivals;
  const double end = scenario.seconds * 1e3;
  // Bursts take 1 / (2 burst) of the time, and bring half of the requests.
  double high = load.rate, low = load.rate, gap_ms = end;
  if (load.burst > 1) {
    const double share = 1 / (2 * load.burst);
    high = load.rate * load.burst;
    low = load.rate * 0.5 / (1 - share);
    gap_ms = load.burst_ms * (1 - share) / share;
  }
  bool bursting = false;
  double now = 0;
  double until = Exponential(random, gap_ms);
  while (now < end) {
    const double next = now + Exponential(random, 1e3 / (bursting ? high : low));
    if (load.burst > 1 && next > until) {
      now = until;
      bursting = !bursting;
      until = now + Exponential(random, bursting ? load.burst_ms : gap_ms);
      continue;
    }
    now = next;
    if (now < end) arrivals.push_back(static_cast<TimeNs>(now * kNsInMs));
  }
  return arrivals;
}

class Run {
 public:
  Run(const SloScenario& scenario, const ModelSpec& spec)
      : scenario_(scenario),
        random_(scenario.seed),
        clock_(std::make_shared<ManualClock>(kStart)),
        model_(Model::Create(spec, clock_)) {
    arrivals_ = Arrivals(scenario, random_);
    for (size_t i = 0; i < scenario.instances; ++i) instances_.push_back({model_->AddInstance(), std::nullopt, 0});
  }

  LoadResult Go() {
    size_t next = 0;
    for (;;) {
      TimeNs at = next < arrivals_.size() ? kStart + arrivals_[next] : kNever;
      for (const Instance& instance : instances_) {
        if (instance.batch) at = std::min(at, instance.over);
      }
      if (wake_ > 0) at = std::min(at, std::max(wake_, clock_->Now() + 1));
      if (at == kNever) break;
      clock_->Advance(at - clock_->Now());
      for (Instance& instance : instances_) {
        if (instance.batch && instance.over <= at) Finish(instance);
      }
      while (next < arrivals_.size() && kStart + arrivals_[next] <= at) Send(next++);
      TakeAll(at);
    }
    return Count();
  }

 private:
  struct Instance {
    size_t number;
    std::optional<Batch> batch;
    TimeNs over;
  };
  // Notes when the answer came, and how it was.
  struct Sink final : CompletionSink {
    explicit Sink(const Clock& clock) : clock(clock) {}
    void Send(const Request&, Response response, bool) noexcept override {
      ok = response.status.ok();
      at = clock.Now();
    }
    bool cancelled() const noexcept override { return false; }
    const Clock& clock;
    bool ok = false;
    TimeNs at = 0;
  };

  static constexpr TimeNs kStart = 1'000'000;
  static constexpr TimeNs kNever = INT64_MAX;

  void Send(size_t number) {
    auto sink = std::make_shared<Sink>(*clock_);
    sinks_.push_back(sink);
    auto request = std::make_unique<Request>(sink);
    request->model = model_->spec();
    request->inputs.push_back({"IN", DType::kInt32, {1, 1}, data_});
    request->timeline.received = clock_->Now();
    static_cast<void>(number);
    model_->Push(std::move(request));
  }

  void TakeAll(TimeNs now) {
    wake_ = 0;
    for (Instance& instance : instances_) {
      if (instance.batch) continue;
      Batch batch = model_->TakeNow(instance.number);
      if (batch.empty()) {
        wake_ = std::max<TimeNs>(0, model_->RipeAt(instance.number, now));
        continue;
      }
      const bool later = scenario_.curve_later && now - kStart > static_cast<TimeNs>(scenario_.seconds * 0.5e9);
      double ms = (later ? scenario_.curve_later : scenario_.curve)(batch.rows());
      ms *= 1 + scenario_.noise * (2 * Uniform(random_) - 1);
      if (Uniform(random_) < scenario_.outliers) ms *= 5;
      instance.over = now + std::max<TimeNs>(1, static_cast<TimeNs>(ms * kNsInMs));
      instance.batch.emplace(std::move(batch));
      ++executions_;
    }
  }

  void Finish(Instance& instance) {
    Batch batch = std::move(*instance.batch);
    instance.batch.reset();
    const Tensor output{"OUT", DType::kInt32, {1, 1}, data_};
    for (size_t i = 0; i < batch.size(); ++i) batch.Respond(i, {output}, {});
    batch.Finish();
  }

  LoadResult Count() const {
    LoadResult result;
    result.executions = executions_;
    if (const auto report = model_->Slo()) result.report = *report;
    const auto slo = static_cast<TimeNs>(scenario_.slo_ms * kNsInMs);
    for (size_t i = 0; i < sinks_.size(); ++i) {
      ++result.sent;
      if (!sinks_[i]->ok) {
        ++result.refused;
      } else if (sinks_[i]->at - kStart - arrivals_[i] <= slo) {
        ++result.good;
      } else {
        ++result.late;
      }
    }
    return result;
  }

  const SloScenario& scenario_;
  simulation::Random random_;
  const std::shared_ptr<ManualClock> clock_;
  const std::shared_ptr<Model> model_;
  const Slice data_ = Ints({1});
  std::vector<TimeNs> arrivals_;
  std::vector<Instance> instances_;
  std::vector<std::shared_ptr<Sink>> sinks_;
  size_t executions_ = 0;
  TimeNs wake_ = 0;
};

}  // namespace

LoadResult RunLoad(const SloScenario& scenario, const ModelSpec& spec) { return Run(scenario, spec).Go(); }

}  // namespace pyinfer::testing
