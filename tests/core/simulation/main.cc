// SPDX-License-Identifier: Apache-2.0
// main.cc - runs the schedules of many seeds, or shows that of one.
//
//   simulation [COUNT [FIRST]]   the seeds FIRST (default 0) to FIRST + COUNT - 1 (default 10000); ends at the first
//                                that fails, with its model, its events and what was wrong
//   simulation seed SEED         one, with its events
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <sstream>

#include "graph_schedule.h"
#include "limit_schedule.h"
#include "producer_schedule.h"
#include "schedule.h"
#include "slo_schedule.h"
#include "split_schedule.h"

namespace {

using pyinfer::simulation::GraphSchedule;
using pyinfer::simulation::LimitSchedule;
using pyinfer::simulation::ProducerSchedule;
using pyinfer::simulation::Schedule;
using pyinfer::simulation::SloSchedule;
using pyinfer::simulation::SplitSchedule;

// A scheduler that waits where it must not would hang the run: no seed takes so long.
constexpr unsigned kHungSeconds = 20;
volatile sig_atomic_t hung_seed = 0;

void Hung(int) {
  char text[80];
  const int size = std::snprintf(text, sizeof(text), "FAILED seed %d: an instance waits for ever\n", int{hung_seed});
  if (write(STDOUT_FILENO, text, static_cast<size_t>(size)) < 0) _exit(2);
  _exit(1);
}

bool Passes(uint64_t seed, std::ostream* log) {
  hung_seed = static_cast<sig_atomic_t>(seed);
  try {
    // One in ten is that of an ensemble, of one that is held up, of models that share resources, of a model with a
    // latency SLO, of large requests.
    if (seed % 10 == 9) {
      ProducerSchedule(seed, log).Run();
    } else if (seed % 10 == 4) {
      GraphSchedule(seed, log).Run();
    } else if (seed % 10 == 3) {
      LimitSchedule(seed, log).Run();
    } else if (seed % 10 == 6) {
      SloSchedule(seed, log).Run();
    } else if (seed % 10 == 1) {
      SplitSchedule(seed, log).Run();
    } else {
      Schedule(seed, log).Run();
    }
    return true;
  } catch (const std::exception& error) {
    if (log != nullptr) *log << "FAILED seed " << seed << ": " << error.what() << std::endl;
    return false;
  }
}

int RunSeeds(uint64_t count, uint64_t first) {
  for (uint64_t seed = first; seed < first + count; ++seed) {
    if (seed % 1000 == 0) alarm(kHungSeconds);
    if (Passes(seed, nullptr)) continue;
    Passes(seed, &std::cout);
    std::printf("once more: simulation seed %llu\n", static_cast<unsigned long long>(seed));
    return 1;
  }
  std::printf("%llu schedules passed\n", static_cast<unsigned long long>(count));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGALRM, Hung);
  alarm(kHungSeconds);
  const auto number = [&](int at, uint64_t otherwise) {
    return argc > at ? std::strtoull(argv[at], nullptr, 10) : otherwise;
  };
  if (argc == 3 && std::strcmp(argv[1], "seed") == 0) return Passes(number(2, 0), &std::cout) ? 0 : 1;
  return RunSeeds(number(1, 10000), number(2, 0));
}
