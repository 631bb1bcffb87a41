// SPDX-License-Identifier: Apache-2.0
// All at once, from several threads: requests come and are cancelled, models are loaded again, unloaded and loaded,
// their instances change, deadlines pass. Each request gets one answer, for a reason that there is, and nothing is
// left. Made for ThreadSanitizer as well.
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "engine/engine.h"
#include "engine/remote_cache.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::IntModel;
using testing::Ints;
using testing::KeepingSink;
using testing::SinkPtr;

constexpr int kSenders = 3;
constexpr int kRounds = 120;  // of the life of each model
const std::vector<std::string> kNames = {"batched", "ordered", "sequences", "cached", "chain"};

ModelSpec SpecOf(const std::string& name, int64_t version) {
  ModelSpec spec = IntModel({8, true, {}, name == "batched" ? 50'000 : 0}, version);
  spec.name = name;
  spec.batching.preserve_ordering = name == "ordered";
  spec.cached = name == "cached";
  spec.queue.default_policy.default_timeout_ns = name == "batched" ? 2'000'000 : 0;
  spec.queue.default_policy.allow_timeout_override = true;
  spec.queue.default_policy.max_queue_size = 64;
  if (name == "sequences") {
    spec.sequence.emplace();
    spec.sequence->strategy = SequenceOptions::Strategy::kOldest;
    spec.sequence->slots = 2;
    spec.sequence->max_idle_ns = 1'000'000;
    spec.batching.preserve_ordering = true;
  }
  if (name == "chain") {
    spec.ensemble.emplace();
    spec.ensemble->steps = {{"batched", -1, {{"IN", "IN"}}, {{"OUT", "between"}}},
                            {"ordered", -1, {{"IN", "between"}}, {{"OUT", "OUT"}}}};
    spec.ensemble->max_inflight_requests = 3;
  }
  return spec;
}

// What a request may be answered with, whatever happens meanwhile.
bool IsExpected(const SinkPtr& sink) {
  switch (sink->code()) {
    case Code::kOk:
      return testing::IntsOf(sink->response.outputs.at(0).data).size() == 1;
    case Code::kCancelled:
      return sink->cancel.load() || sink->message().find("in ensemble") == 0;
    case Code::kNotFound:     // unloaded
    case Code::kUnavailable:  // a full queue, a deadline, a model that is unloaded
      return true;
    case Code::kInvalidArg:  // a sequence that was forgotten with its model
      return sink->message().find("must specify the START flag") != std::string::npos;
    default:
      return false;
  }
}

class Storm {
 public:
  Storm() { engine_->SetResponseCache(cache_); }

  void Run() {
    for (const std::string& name : kNames) Load(name, 1);
    std::vector<std::thread> threads;
    for (int sender = 0; sender < kSenders; ++sender) threads.emplace_back([this, sender] { Send(sender); });
    threads.emplace_back([this] { ServeCache(); });
    threads.emplace_back([this] {
      while (running_.load()) {
        engine_->Dispatch();
        std::this_thread::yield();
      }
    });
    std::vector<std::thread> lives;
    for (const std::string& name : kNames) lives.emplace_back([this, name] { Live(name); });
    for (std::thread& life : lives) life.join();
    running_.store(false);
    for (std::thread& thread : threads) thread.join();
    cache_->Close();
    for (const std::string& name : kNames) Unload(name);
  }

  void Check() {
    size_t answered = 0;
    for (const auto& sinks : sent_) {
      for (const SinkPtr& sink : sinks) {
        CHECK_EQ(sink->answers.load(), 1);
        if (!IsExpected(sink)) CHECK_EQ(sink->message(), "");
        answered += sink->code() == Code::kOk ? 1 : 0;
      }
    }
    CHECK(answered > 0);
    CHECK_EQ(engine_->in_flight(), size_t{0});
  }

 private:
  void Load(const std::string& name, int64_t version) {
    const std::shared_ptr<Model> model = engine_->CreateModel(SpecOf(name, version), {}, "storm");
    if (name != "chain") CHECK(model->StartNative("identity", {}, {"a", "b"}).ok());
    engine_->Publish(name, {model}, {});
    const std::shared_ptr<Model> before = std::exchange(served_.at(name), model);
    if (before) End(before);
  }

  void Unload(const std::string& name) {
    engine_->Withdraw(name);
    if (const auto model = std::exchange(served_.at(name), nullptr)) End(model);
  }

  // As the loader does it: what was accepted may be done with, for a while.
  static void End(const std::shared_ptr<Model>& model) {
    model->Drain(std::chrono::milliseconds(20));
    model->Stop();
  }

  void Live(const std::string& name) {
    std::mt19937 random(static_cast<unsigned>(name.size()));
    for (int64_t round = 2; round < kRounds; ++round) {
      const std::shared_ptr<Model> model = served_.at(name);
      switch (random() % 4) {
        case 0:
          Unload(name);
          break;
        case 1:
          if (model && name != "chain") {
            const size_t instances = 1 + random() % 3;
            CHECK(model->StartNative("identity", {}, std::vector<std::string>(instances, "i")).ok());
          }
          break;
        default:
          Load(name, round);
      }
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
    }
  }

  void Send(int sender) {
    std::mt19937 random(static_cast<unsigned>(sender));
    std::vector<SinkPtr>& mine = sent_[static_cast<size_t>(sender)];
    while (running_.load()) {
      for (size_t burst = 1 + random() % 8; burst != 0; --burst) mine.push_back(SendOne(random));
      if (random() % 3 == 0) {
        mine[mine.size() - 1 - random() % std::min<size_t>(mine.size(), 16)]->cancel = true;
        engine_->NoteCancellation();
      }
      engine_->Dispatch();
      // No faster than it is answered, by and large.
      while (running_.load() && engine_->in_flight() > 200) std::this_thread::yield();
    }
    engine_->Dispatch();
  }

  SinkPtr SendOne(std::mt19937& random) {
    auto sink = std::make_shared<KeepingSink>();
    auto request = std::make_unique<Request>(sink);
    request->model_name = kNames[random() % kNames.size()];
    request->timeout_us = random() % 2 == 0 ? 0 : 1 + random() % 2000;
    request->inputs.push_back({"IN", DType::kInt32, {1, 1}, Ints({static_cast<int32_t>(random() % 20)})});
    if (request->model_name == "sequences") {
      request->correlation_id.number = 1 + random() % 4;
      request->flags = (random() % 3 == 0 ? kSequenceStart : 0) | (random() % 4 == 0 ? kSequenceEnd : 0);
    }
    engine_->Submit(std::move(request));
    return sink;
  }

  // The other side of the cache keeps what it is given, forgets some, and is away at times.
  void ServeCache() {
    std::mt19937 random(7);
    std::map<std::string, std::string> kept;
    while (running_.load()) {
      for (const RemoteCache::Job& job : cache_->Take(std::chrono::milliseconds(1), 8)) {
        if (job.value) {
          kept[job.key] = *job.value;
        } else if (const auto found = kept.find(job.key); found != kept.end()) {
          cache_->Answer(job.id, Slice::Copy(found->second.data(), found->second.size()));
        } else if (random() % 8 != 0) {
          cache_->Answer(job.id, std::nullopt);
        }
      }
      cache_->SetReachable(random() % 32 != 0);
    }
  }

  static RemoteCache::Limits Impatient() {
    RemoteCache::Limits limits;
    limits.patience = 2'000'000;
    return limits;
  }

  const std::shared_ptr<RemoteCache> cache_ = std::make_shared<RemoteCache>(Impatient());
  const std::shared_ptr<Engine> engine_ = std::make_shared<Engine>(std::make_shared<SystemClock>());
  // Each is looked at by the thread of its own life alone.
  std::map<std::string, std::shared_ptr<Model>> served_ = {
      {"batched", nullptr}, {"ordered", nullptr}, {"sequences", nullptr}, {"cached", nullptr}, {"chain", nullptr}};
  std::vector<std::vector<SinkPtr>> sent_{kSenders};
  std::atomic<bool> running_{true};
};

TEST(Storm, InferCancelReloadUnload) {
  Storm storm;
  storm.Run();
  storm.Check();
}

}  // namespace
}  // namespace pyinfer
