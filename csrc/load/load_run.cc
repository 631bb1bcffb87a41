// SPDX-License-Identifier: Apache-2.0
#include "load/load_run.h"

#include <pthread.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "load/address.h"

namespace pyinfer {
namespace {

TimeNs CpuTimeOf(std::thread& thread) {
  clockid_t clock{};
  timespec used{};
  if (pthread_getcpuclockid(thread.native_handle(), &clock) != 0 || clock_gettime(clock, &used) != 0) return 0;
  return TimeNs{used.tv_sec} * 1'000'000'000 + used.tv_nsec;
}

Status CheckSchedule(const Schedule& schedule) {
  if (schedule.burst == 0) return Status::InvalidArg("a burst has a request");
  const bool listed = schedule.kind == Schedule::Kind::kIntervals || schedule.kind == Schedule::Kind::kOnce;
  if (!listed) return schedule.rate > 0 ? Status() : Status::InvalidArg("the rate of requests must be above 0");
  if (schedule.times.empty()) return Status::InvalidArg("a schedule needs times");
  TimeNs before = 0, sum = 0;
  for (const TimeNs time : schedule.times) {
    if (time < 0) return Status::InvalidArg("times of a schedule must not be negative");
    if (schedule.kind == Schedule::Kind::kOnce && time < before) {
      return Status::InvalidArg("times of a schedule must not descend");
    }
    before = time;
    sum += time;
  }
  if (schedule.kind == Schedule::Kind::kIntervals && sum == 0) {
    return Status::InvalidArg("one interval of a schedule must be above 0");
  }
  return {};
}

Status CheckSequences(const LoadOptions& options) {
  const SequencePlan& plan = options.sequences;
  if (options.concurrency != 0 && plan.live != options.concurrency) {
    return Status::InvalidArg("each request at a time of a closed loop needs a sequence of its own");
  }
  if (plan.live < options.threads) return Status::InvalidArg("each thread needs a sequence");
  if (plan.first_id == 0) return Status::InvalidArg("the id of a sequence must not be 0");
  if (plan.end_id != 0 && (plan.end_id <= plan.first_id || plan.end_id - plan.first_id < plan.live)) {
    return Status::InvalidArg("there are not enough ids for " + std::to_string(plan.live) + " sequences at a time");
  }
  if (!(plan.variation >= 0 && plan.variation <= 1)) {
    return Status::InvalidArg("the variation of the length of sequences must be between 0 and 1");
  }
  if (plan.data.empty()) return Status::InvalidArg("sequences need data");
  for (const auto& [first, count] : plan.data) {
    if (count == 0 || first >= options.bodies.size() || count > options.bodies.size() - first) {
      return Status::InvalidArg("data of a sequence are not among the requests");
    }
  }
  if (options.protocol != LoadProtocol::kHttp) return {};
  for (const std::string& body : options.bodies) {
    if (body.find(kSequenceFields) == std::string::npos) {
      return Status::InvalidArg("a request has no place for its sequence");
    }
  }
  return {};
}

Status CheckRamp(const LoadOptions& options) {
  const RampPlan& ramp = options.ramp;
  if (ramp.end < ramp.start || ramp.step == 0 || ramp.period == 0) {
    return Status::InvalidArg("a ramp has an end from its start on, a step and a period above 0");
  }
  if (ramp.end != options.concurrency) return Status::InvalidArg("a ramp ends with the concurrency of the load");
  if (options.threads != 1) return Status::InvalidArg("a ramp is carried by one thread");
  if (options.sequences.live != 0) return Status::InvalidArg("requests of a ramp belong to no sequences");
  return {};
}

Status CheckChats(const LoadOptions& options) {
  if (options.protocol != LoadProtocol::kHttp || options.concurrency == 0 || options.max_requests != 0) {
    return Status::InvalidArg("chats are held over HTTP, in a closed loop without a number of requests");
  }
  if (options.events != EventGrammar::kOpenAi) return Status::InvalidArg("chats are held with servers of OpenAI's API");
  if (options.ramp.start != 0 || options.sequences.live != 0) {
    return Status::InvalidArg("turns of chats belong to no ramp and to no sequences");
  }
  for (const Chat& chat : options.chats) {
    if (chat.empty()) return Status::InvalidArg("a chat has a turn");
    for (const ChatTurn& turn : chat) {
      if (turn.body >= options.bodies.size() || !IsChatRequest(options.bodies[turn.body], turn)) {
        return Status::InvalidArg("a turn of a chat is none of the requests, or a request has no messages there");
      }
      if (turn.delay < 0) return Status::InvalidArg("the delay after a turn must not be negative");
    }
  }
  return {};
}

}  // namespace

LoadRun::LoadRun(LoadOptions options)
    : options_(std::move(options)),
      budget_(static_cast<int64_t>(options_.chats.empty() ? options_.max_requests : options_.chats.size())) {}

LoadRun::~LoadRun() { Stop(0); }

Status LoadRun::Check(const LoadOptions& options) {
  sockaddr_storage ignored{};
  if (ToSockaddr(options.address, options.port, ignored) == 0)
    return Status::InvalidArg("the address must be an IP address");
  if (options.port == 0) return Status::InvalidArg("the port must not be 0");
  if (options.bodies.empty()) return Status::InvalidArg("there is nothing to send");
  for (const std::string& body : options.bodies) {
    if (body.empty()) return Status::InvalidArg("a request is empty");
  }
  if (!options.expected.empty() && options.expected.size() != options.bodies.size()) {
    return Status::InvalidArg("each request needs its expected outputs, or none does");
  }
  if (options.sequences.live != 0) {
    const Status status = CheckSequences(options);
    if (!status.ok()) return status;
  }
  if (options.ramp.start != 0) {
    const Status status = CheckRamp(options);
    if (!status.ok()) return status;
  }
  if (!options.chats.empty()) {
    const Status status = CheckChats(options);
    if (!status.ok()) return status;
  }
  if (options.threads == 0 || options.connections < options.threads) {
    return Status::InvalidArg("each thread needs a connection");
  }
  if (options.concurrency != 0) {
    if (options.schedule != nullptr) return Status::InvalidArg("a load has a concurrency or a schedule, not both");
    if (options.connections > options.concurrency) {
      return Status::InvalidArg("there are more connections than requests at a time");
    }
    if (options.protocol == LoadProtocol::kHttp && options.connections != options.concurrency) {
      return Status::InvalidArg("each request at a time needs a connection of its own over HTTP/1.1");
    }
    return {};
  }
  if (options.schedule == nullptr) return Status::InvalidArg("a load needs a concurrency or a schedule");
  if (options.streams == 0) return Status::InvalidArg("a connection must carry a request at a time");
  return CheckSchedule(*options.schedule);
}

void LoadRun::Start() {
  if (!workers_.empty()) return;
  const TimeNs now = clock_.Now();
  for (uint32_t i = 0; i < options_.threads; ++i) {
    workers_.push_back(std::make_unique<LoadWorker>(options_, i, now, budget_, clock_));
  }
  for (const auto& worker : workers_) threads_.emplace_back([one = worker.get()] { one->Run(); });
}

uint64_t LoadRun::Sum(uint64_t (LoadWorker::*count)() const) const {
  uint64_t sum = 0;
  for (const auto& worker : workers_) sum += (*worker.*count)();
  return sum;
}

uint64_t LoadRun::responses() const { return Sum(&LoadWorker::responses); }
uint64_t LoadRun::in_flight() const { return Sum(&LoadWorker::in_flight); }
uint64_t LoadRun::refused() const { return Sum(&LoadWorker::refused); }

bool LoadRun::exhausted() const {
  return std::all_of(workers_.begin(), workers_.end(), [](const auto& worker) { return worker->exhausted(); });
}

uint64_t LoadRun::Wait(double seconds, uint64_t requests) {
  const uint64_t before = Sum(&LoadWorker::answered);
  const TimeNs until = clock_.Now() + static_cast<TimeNs>(std::clamp(seconds, 0.0, 1e6) * 1e9);
  for (;;) {
    const uint64_t answered = Sum(&LoadWorker::answered) - before;
    const TimeNs left = until - clock_.Now();
    if (left <= 0 || (requests != 0 && answered >= requests) || threads_.empty() || exhausted()) return answered;
    // A number of requests is seen a millisecond late at most, the end of the load ten; that is what the windows' own
    // times are for. Looking costs the client CPU time.
    const bool is_once = options_.schedule && options_.schedule->kind == Schedule::Kind::kOnce;
    const bool ends = options_.max_requests != 0 || options_.ramp.start != 0 || !options_.chats.empty() || is_once;
    const TimeNs step = requests != 0 ? 1'000'000 : ends ? 10'000'000 : left;
    std::this_thread::sleep_for(std::chrono::nanoseconds(std::min(left, step)));
  }
}

LoadWindow LoadRun::Take() {
  LoadWindow window;
  const TimeNs now = clock_.Now();
  for (const auto& worker : workers_) worker->TakeInto(window, now);
  TimeNs cpu = 0;
  for (std::thread& thread : threads_) cpu += CpuTimeOf(thread);
  window.cpu_ns = std::max<TimeNs>(0, cpu - cpu_taken_);
  cpu_taken_ = cpu;
  return window;
}

LoadWindow LoadRun::Stop(double drain_seconds) {
  for (const auto& worker : workers_) worker->Pause();
  const TimeNs until = clock_.Now() + static_cast<TimeNs>(std::clamp(drain_seconds, 0.0, 1e6) * 1e9);
  const auto under_way = [this] {
    const bool ends_sequences = options_.sequences.live != 0;
    return std::any_of(workers_.begin(), workers_.end(), [&](const auto& worker) {
      return ends_sequences ? !worker->settled() : worker->in_flight() != 0;
    });
  };
  while (!threads_.empty() && under_way() && clock_.Now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  LoadWindow rest = Take();
  for (const auto& worker : workers_) worker->Stop();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  return rest;
}

}  // namespace pyinfer
