// SPDX-License-Identifier: Apache-2.0
#include "worker/host.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "engine/engine.h"
#include "worker/futex.h"
#include "worker/session.h"

namespace pyinfer {
namespace {

// What whoever brings requests may copy: others wait for that thread.
constexpr size_t kMostCopied = size_t{64} << 10;

// Of the inputs of a batch.
struct InputBytes {
  size_t copied = 0;
  size_t placed = 0;
};

InputBytes CountInputs(const Batch& batch, const PlacedInputs* inputs) {
  InputBytes bytes;
  for (size_t i = 0; i < batch.size(); ++i) {
    for (const Tensor& input : batch.request(i).inputs) {
      const bool is_placed = inputs != nullptr && inputs->OffsetOf(input.data.view());
      (is_placed ? bytes.placed : bytes.copied) += input.data.size();
    }
  }
  return bytes;
}

// Whether an event loop may take the answers, which are mostly as large as the inputs: not to wait for a device, for
// more responses, or for much to be written.
bool MayRing(const Batch& batch, const InputBytes& bytes) {
  if (batch.model().decoupled || bytes.copied + bytes.placed > WorkerSession::kMostTaken) return false;
  for (size_t i = 0; i < batch.size(); ++i) {
    const Request& request = batch.request(i);
    if (request.uses_shared_memory || request.slow_to_answer) return false;
  }
  return true;
}

// Whether nothing is left to do for the batch; counts it where it was executed.
bool IsOver(WorkerSession::Outcome outcome, std::atomic<uint64_t>& executed) {
  if (outcome == WorkerSession::Outcome::kDone) executed.fetch_add(1, std::memory_order_relaxed);
  return outcome != WorkerSession::Outcome::kNotBegun;
}

}  // namespace

WorkerHost::WorkerHost(TimeNs execution_limit, std::shared_ptr<Engine> engine, std::shared_ptr<PlacedInputs> inputs)
    : execution_limit_(execution_limit),
      engine_(std::move(engine)),
      inputs_(std::move(inputs)),
      doorbell_(engine_ ? engine_->doorbell() : std::make_shared<Doorbell>()) {}

WorkerHost::~WorkerHost() = default;

std::shared_ptr<WorkerSession> WorkerHost::Announce(const WorkerLanes& lanes, std::function<void()> kill) {
  auto session = std::make_shared<WorkerSession>(lanes, engine_, inputs_, std::move(kill));
  std::lock_guard<std::mutex> lock(mutex_);
  sessions_.push_back(session);
  return session;
}

void WorkerHost::Attach(const std::shared_ptr<WorkerSession>& session) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    attached_ = session;
  }
  changed_.notify_all();
}

void WorkerHost::End(const std::shared_ptr<WorkerSession>& session, const Status& reason) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    sessions_.erase(std::remove(sessions_.begin(), sessions_.end(), session), sessions_.end());
    if (attached_ == session) attached_ = nullptr;
  }
  session->End(reason);
  Wake();
}

void WorkerHost::Close(const Status& reason) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!closed_) closed_reason_ = reason;
    closed_ = true;
  }
  changed_.notify_all();
}

std::shared_ptr<WorkerSession> WorkerHost::WaitSession() {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto is_ready = [this] { return attached_ && attached_->accepts(); };
  changed_.wait(lock, [&] { return closed_ || is_ready(); });
  return is_ready() ? attached_ : nullptr;
}

bool WorkerHost::WaitReady() { return WaitSession() != nullptr; }

void WorkerHost::Execute(Batch& batch, const std::shared_ptr<Model>& model, size_t instance) {
  last_begun_by_.reset();
  for (;;) {
    const std::shared_ptr<WorkerSession> session = WaitSession();
    if (!session) return batch.FailOpen(closed_reason_);
    if (IsOver(session->Execute(batch, execution_limit_, {model, instance}), executed_)) return;
  }
}

HeardBy WorkerHost::Begin(Batch batch, const std::shared_ptr<Model>& model, size_t instance) {
  begun_ = std::move(batch);
  const InputBytes bytes = CountInputs(begun_, inputs_.get());
  if (bytes.copied > kMostCopied) return HeardBy::kNobody;
  std::shared_ptr<WorkerSession> session;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    session = attached_;
  }
  const bool rings = doorbell_->attended() && MayRing(begun_, bytes);
  if (!session || !session->Begin(begun_, {model, instance}, rings)) return HeardBy::kNobody;
  begun_by_ = std::move(session);
  rings_ = rings;
  if (rings) return HeardBy::kDoorbell;
  return watches_lane_ && begun_by_ == watched_.lock() ? HeardBy::kWatcher : HeardBy::kNobody;
}

BatchStarter::Progress WorkerHost::TryComplete() {
  using Progress = BatchStarter::Progress;
  const Progress progress = begun_by_ ? begun_by_->TryComplete(begun_) : Progress::kLeft;
  if (progress != Progress::kCompleted) return progress;
  executed_.fetch_add(1, std::memory_order_relaxed);
  completed_.fetch_add(1, std::memory_order_relaxed);
  last_begun_by_ = std::exchange(begun_by_, nullptr);
  begun_.Finish();
  return progress;
}

void WorkerHost::Complete(const std::shared_ptr<Model>& model, size_t instance) {
  const std::shared_ptr<WorkerSession> session = std::exchange(begun_by_, nullptr);
  const bool over = session && IsOver(session->Complete(begun_, execution_limit_), executed_);
  if (over) {
    last_begun_by_ = session;
  } else {
    Execute(begun_, model, instance);
  }
  begun_.Finish();
}

bool WorkerHost::PrepareWatch() {
  const std::shared_ptr<WorkerSession> session = begun_by_ ? begun_by_ : last_begun_by_.lock();
  watches_lane_ = !rings_;
  if (!session || !session->accepts() || (watches_lane_ && !CanFutexWaitEither())) return false;
  watched_ = session;
  wakes_seen_ = wakes_.load(std::memory_order_acquire);
  completed_seen_ = completed_.load(std::memory_order_relaxed);
  return true;
}

bool WorkerHost::Watch() {
  if (!watches_lane_) {
    FutexWait(wakes_, wakes_seen_, WorkerSession::kLook);
  } else if (const std::shared_ptr<WorkerSession> session = watched_.lock()) {
    session->Watch({wakes_, wakes_seen_});
  }
  return completed_.load(std::memory_order_relaxed) != completed_seen_;
}

void WorkerHost::Wake() {
  wakes_.fetch_add(1, std::memory_order_release);
  FutexWake(wakes_);
}

void WorkerHost::WaitLate() {
  constexpr std::chrono::milliseconds kLook(20);
  const auto is_late = [](const std::shared_ptr<WorkerSession>& session) { return session->has_late(); };
  std::unique_lock<std::mutex> lock(mutex_);
  while (!closed_ && std::any_of(sessions_.begin(), sessions_.end(), is_late)) changed_.wait_for(lock, kLook);
}

void WorkerHost::Stop() {
  std::vector<std::shared_ptr<WorkerSession>> sessions;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    sessions = sessions_;
  }
  for (const std::shared_ptr<WorkerSession>& session : sessions) session->Stop();
}

}  // namespace pyinfer
