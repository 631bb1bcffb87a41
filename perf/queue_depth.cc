// SPDX-License-Identifier: Apache-2.0
// queue_depth.cc - what it costs to queue a request and to take it again, by how many others wait.
//
// Usage: queue_depth ROUNDS DEPTH...; prints {"DEPTH": {"request_ns": [...], "expired": SHARE}, ...}: CPU nanoseconds
// of this thread for each request, round by round. Depths take turns, so that what the machine does meanwhile meets
// them all. Requests have four priorities and deadlines of their own; some run out while they wait. They are taken in
// batches of up to 8. To make requests and to let go of them is not counted.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "sched/dynamic_source.h"
#include "sched/request_queue.h"

namespace pyinfer {
namespace {

constexpr size_t kBatch = 8;
constexpr size_t kRound = 512;  // requests
constexpr uint64_t kLevels = 4;
constexpr size_t kOneExpiresOf = 13;
constexpr TimeNs kSecond = 1'000'000'000;
constexpr TimeNs kBetweenRequests = 1000;

int64_t CpuNs() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * kSecond + time.tv_nsec;
}

struct NoSink final : CompletionSink {
  void Send(const Request&, Response, bool) noexcept override {}
  bool cancelled() const noexcept override { return false; }
};

std::shared_ptr<const ModelSpec> MakeModel() {
  ModelSpec spec;
  spec.name = "m";
  spec.inputs = {{"IN", DType::kFp32, {16}, {}, false}};
  spec.batching.max_batch_size = kBatch;
  spec.batching.dynamic = true;
  spec.queue.priority_levels = kLevels;
  spec.queue.default_priority_level = kLevels;
  spec.queue.default_policy.default_timeout_ns = 3600 * kSecond;
  spec.queue.default_policy.allow_timeout_override = true;
  return std::make_shared<const ModelSpec>(std::move(spec));
}

// A queue in which `depth` requests wait when one of them is taken.
class Load {
 public:
  explicit Load(size_t depth) : depth_(depth), together_(std::min(kBatch, depth)) {
    Fill();
    Fill();  // again: what has expired meanwhile
  }

  size_t depth() const { return depth_; }
  double expired() const { return static_cast<double>(expired_) / static_cast<double>(timed_); }

  double RoundNs() {
    std::vector<RequestPtr> requests;
    for (size_t i = 0; i < kRound; ++i) requests.push_back(Make(1 + i % kLevels));
    std::vector<Batch> batches;
    batches.reserve(kRound);
    const size_t before = source_->size();
    size_t taken = 0;
    const int64_t begun = CpuNs();
    for (auto next = requests.begin(); next != requests.end();) {
      for (size_t i = 0; i < together_; ++i) Push(std::move(*next++));
      batches.push_back(source_->Take(0, clock_.Now()));
      taken += batches.back().size();
    }
    const int64_t spent = CpuNs() - begun;
    timed_ += kRound;
    expired_ += before + kRound - taken - source_->size();
    Fill();
    return static_cast<double>(spent) / kRound;
  }

 private:
  RequestPtr Make(uint64_t priority) {
    auto request = std::make_unique<Request>(sink_);
    request->model = model_;
    request->priority = priority;
    // One in 13 may not live to be taken: it gets a time that others, too, are still waiting after.
    const size_t us = made_ % kOneExpiresOf == 0 ? 1 + random_() % (2 * depth_) : (60 + random_() % 3600) * 1'000'000;
    request->timeout_us = us;
    request->inputs.push_back(
        {"IN", DType::kFp32, Shape{1, 16}, Slice::Copy(row_.data(), row_.size() * sizeof(float))});
    ++made_;
    return request;
  }

  // As the engine does it.
  void Push(RequestPtr request) {
    clock_.Advance(kBetweenRequests);
    request->timeline.queued = clock_.Now();
    request->queue_deadline = QueueDeadline(model_->queue, *request);
    source_->Push(std::move(request));
  }

  // As it is after long use: all that wait are of the lowest priority, which one request in four has.
  void Fill() {
    source_->Expire(clock_.Now());
    for (size_t left = depth_ - together_ - source_->size(); left != 0; --left) {
      clock_.Advance(kBetweenRequests * (kLevels - 1));
      Push(Make(kLevels));
    }
  }

  const size_t depth_;
  const size_t together_;  // pushed and then taken
  const std::vector<float> row_ = std::vector<float>(16);
  const std::shared_ptr<NoSink> sink_ = std::make_shared<NoSink>();
  const std::shared_ptr<const ModelSpec> model_ = MakeModel();
  ManualClock clock_{kSecond};
  const std::unique_ptr<BatchSource> source_ = MakeBatchSource(model_, clock_, {});
  std::minstd_rand random_{1};
  size_t made_ = 0;
  size_t timed_ = 0;
  size_t expired_ = 0;
};

int Main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: queue_depth ROUNDS DEPTH...\n");
    return 2;
  }
  const long rounds = std::atol(argv[1]);
  std::vector<std::unique_ptr<Load>> loads;
  for (int i = 2; i < argc; ++i) loads.push_back(std::make_unique<Load>(std::max(1L, std::atol(argv[i]))));
  std::vector<std::string> taken(loads.size());
  for (long round = -1; round < rounds; ++round) {  // the first one only warms up
    for (size_t i = 0; i < loads.size(); ++i) {
      const double ns = loads[i]->RoundNs();
      if (round >= 0) taken[i] += (taken[i].empty() ? "" : ", ") + std::to_string(ns);
    }
  }
  for (size_t i = 0; i < loads.size(); ++i) {
    std::printf("%s\"%zu\": {\"request_ns\": [%s], \"expired\": %.4f}", i == 0 ? "{" : ", ", loads[i]->depth(),
                taken[i].c_str(), loads[i]->expired());
  }
  std::printf("}\n");
  return 0;
}

}  // namespace
}  // namespace pyinfer

int main(int argc, char** argv) { return pyinfer::Main(argc, argv); }
