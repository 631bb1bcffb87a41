// SPDX-License-Identifier: Apache-2.0
// beginners.h - instances whose batches others begin, with stand-ins for the workers that execute them.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "engine/lending.h"
#include "engine/model_call.h"
#include "ensembles.h"

namespace pyinfer::testing {

template <typename Condition>
void Await(Condition condition) {
  while (!condition()) std::this_thread::yield();
}

inline void AnswerAll(Batch& batch) {
  for (size_t i = 0; i < batch.size(); ++i) Works::Respond(batch, i, {10 * Works::In(batch, i)});
  batch.Finish();
}

// Keeps what it is given to begin; notes what must never be.
class Starter : public BatchStarter {
 public:
  void End() {}
  HeardBy Begin(Batch batch) override {
    if (batch.empty() || !kept_.empty()) wrong = true;
    kept_ = std::move(batch);
    begun.fetch_add(1);
    return HeardBy::kNobody;
  }
  void Complete() {
    if (kept_.empty()) wrong = true;
    AnswerAll(kept_);
    kept_ = Batch();
  }

  std::atomic<size_t> begun{0};
  std::atomic<bool> wrong{false};

 private:
  Batch kept_;
};

// Watches for ever unless it is woken. Every fifth batch it begins has no answer that would end its Watch.
class WatchingStarter : public Starter {
 public:
  HeardBy Begin(Batch batch) override {
    const bool heard = begun % 5 != 0;
    Starter::Begin(std::move(batch));
    if (!heard) return HeardBy::kNobody;
    Wake();
    return HeardBy::kWatcher;
  }
  bool PrepareWatch() override {
    std::lock_guard<std::mutex> lock(mutex_);
    woken_ = ended_;
    return true;
  }
  bool Watch() override {
    std::unique_lock<std::mutex> lock(mutex_);
    watched.fetch_add(1);
    changed_.wait(lock, [&] { return woken_; });
    return false;
  }
  void Wake() override {
    std::lock_guard<std::mutex> lock(mutex_);
    woken_ = true;
    changed_.notify_all();
  }
  // From now on there always is something to see: nobody wakes it for the end of the model.
  void End() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
    }
    Wake();
  }

  std::atomic<size_t> watched{0};

 protected:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;
  bool ended_ = false;
};

// The doorbell is heard for what it begins, but for every fifth batch, which is answered at once or later. Every
// seventh answer is left to the thread of the instance.
class RingingStarter final : public WatchingStarter {
 public:
  HeardBy Begin(Batch batch) override {
    const bool rings = begun % 5 != 0;
    is_answered_ = begun % 3 != 0;
    Starter::Begin(std::move(batch));
    return rings ? HeardBy::kDoorbell : HeardBy::kNobody;
  }
  Progress TryComplete() override {
    if (!std::exchange(is_answered_, true)) return Progress::kNone;
    if (begun % 7 == 0) return Progress::kLeft;
    Complete();
    completed.fetch_add(1);
    return Progress::kCompleted;
  }
  // For a millisecond at a time.
  bool Watch() override {
    const size_t before = completed;
    std::unique_lock<std::mutex> lock(mutex_);
    watched.fetch_add(1);
    changed_.wait_for(lock, std::chrono::milliseconds(1), [&] { return woken_; });
    return completed != before;
  }
  bool KeepWatching() override {
    std::lock_guard<std::mutex> lock(mutex_);
    return !woken_;
  }

  std::atomic<size_t> completed{0};

 private:
  bool is_answered_ = false;  // of whoever has the instance
};

// One more instance of a model, on a thread of its own, whose batches others begin.
template <typename Kind = Starter>
class Beginner {
 public:
  explicit Beginner(std::shared_ptr<Model> model, std::shared_ptr<LimitedInstance> limited = nullptr)
      : model_(std::move(model)), instance(model_->AddInstance(std::move(limited))), thread_([this] { Run(); }) {}
  ~Beginner() {
    model_->Stop();
    starter.End();
    thread_.join();
  }

 private:
  void Run() {
    model_->LetBegin(instance, starter);
    for (;;) {
      bool begun = false;
      Batch batch = model_->NextBatch(instance, &begun);
      if (begun && !batch.empty()) starter.wrong = true;
      if (!begun && batch.empty()) break;
      if (begun) {
        starter.Complete();
      } else {
        AnswerAll(batch);
      }
    }
    model_->StopLending(instance);
    ended = true;
  }

  const std::shared_ptr<Model> model_;

 public:
  const size_t instance;
  Kind starter;
  std::atomic<bool> ended{false};

 private:
  std::thread thread_;
};

// The model "m", whose batches wait for a while until they are full.
inline std::shared_ptr<Model> PublishWaiting(Works& works) {
  ModelSpec spec = Works::Spec("m", {"IN"}, {"OUT"}, /*rows=*/4);
  spec.batching.max_queue_delay_ns = 200'000;
  return works.Publish(std::move(spec));
}

inline void AskAndCheck(Works& works, int32_t value) {
  const auto call = std::make_shared<LocalCall>(works.engine);
  auto request = std::make_unique<Request>(call);
  request->model_name = "m";
  request->inputs.push_back({"IN", DType::kInt32, {1, 1}, Ints({value})});
  call->Start(std::move(request), CallOrigin(), /*decoupled=*/false);
  const auto item = call->Next();
  CHECK(item && item->final);
  CheckOutput(item->response, "OUT", 10 * value);
}

inline void AskByMany(Works& works, int callers, int32_t each) {
  std::vector<std::thread> threads;
  for (int caller = 0; caller < callers; ++caller) {
    threads.emplace_back([&] {
      for (int32_t i = 0; i < each; ++i) AskAndCheck(works, i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace pyinfer::testing
