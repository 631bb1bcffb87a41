// SPDX-License-Identifier: Apache-2.0
// slo_load.h - open-loop load on a model under a ManualClock: what share of the requests is answered within the SLO?
//
// Deterministic: a seed gives the same arrivals, executions and answers on every machine.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "infer/model_spec.h"
#include "sched/slo_control.h"

namespace pyinfer::testing {

// Milliseconds that an execution of `rows` takes.
using Curve = std::function<double(int64_t rows)>;

struct LoadShape {
  double rate = 0;      // requests a second, mean
  double burst = 1;     // so many times the rate while a burst lasts, and little between bursts; 1: Poisson
  double burst_ms = 0;  // mean length of a burst
};

struct SloScenario {
  Curve curve;
  LoadShape load;
  double slo_ms = 0;
  size_t instances = 1;
  double seconds = 8;
  double noise = 0.1;       // of execution times, relative
  double outliers = 0.005;  // share of the executions that take five times as long
  Curve curve_later = {};   // from half of the time on, if given
  uint64_t seed = 1;
};

struct LoadResult {
  size_t sent = 0;
  size_t good = 0;  // answered within the SLO
  size_t late = 0;
  size_t refused = 0;
  size_t executions = 0;
  SloReport report;  // of a model with an SLO
};

// `spec`: a model of testing::IntModel.
LoadResult RunLoad(const SloScenario& scenario, const ModelSpec& spec);

}  // namespace pyinfer::testing
