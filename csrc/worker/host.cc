// SPDX-License-Identifier: Apache-2.0
#include "worker/host.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "worker/futex.h"
#include "worker/session.h"

namespace pyinfer {
namespace {

// What whoever brings requests may copy: others wait for that thread.
constexpr size_t kMostCopied = size_t{64} << 10;

bool IsSmall(const Batch& batch, const PlacedInputs* inputs) {
  size_t bytes = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    for (const Tensor& input : batch.request(i).inputs) {
      const bool is_placed = inputs != nullptr && inputs->OffsetOf(input.data.view());
      if (!is_placed) bytes += input.data.size();
    }
  }
  return bytes <= kMostCopied;
}

// Whether nothing is left to do for the batch; counts it where it was executed.
bool IsOver(WorkerSession::Outcome outcome, std::atomic<uint64_t>& executed) {
  if (outcome == WorkerSession::Outcome::kDone) executed.fetch_add(1, std::memory_order_relaxed);
  return outcome != WorkerSession::Outcome::kNotBegun;
}

}  // namespace

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
  watched_.reset();
  for (;;) {
    const std::shared_ptr<WorkerSession> session = WaitSession();
    if (!session) return batch.FailOpen(closed_reason_);
    if (IsOver(session->Execute(batch, execution_limit_, {model, instance}), executed_)) return;
  }
}

bool WorkerHost::Begin(Batch batch, const std::shared_ptr<Model>& model, size_t instance) {
  begun_ = std::move(batch);
  if (!IsSmall(begun_, inputs_.get())) return false;
  std::shared_ptr<WorkerSession> session;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    session = attached_;
  }
  if (session && session->Begin(begun_, {model, instance})) begun_by_ = std::move(session);
  return begun_by_ != nullptr && begun_by_ == watched_.lock();
}

void WorkerHost::Complete(const std::shared_ptr<Model>& model, size_t instance) {
  const std::shared_ptr<WorkerSession> session = std::exchange(begun_by_, nullptr);
  const bool over = session && IsOver(session->Complete(begun_, execution_limit_), executed_);
  if (over) {
    watched_ = session;
  } else {
    Execute(begun_, model, instance);
  }
  begun_.Finish();
}

bool WorkerHost::PrepareWatch() {
  const std::shared_ptr<WorkerSession> session = watched_.lock();
  if (!session || !session->accepts() || !CanFutexWaitEither()) return false;
  wakes_seen_ = wakes_.load(std::memory_order_acquire);
  return true;
}

void WorkerHost::Watch() {
  if (const std::shared_ptr<WorkerSession> session = watched_.lock()) session->Watch({wakes_, wakes_seen_});
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
