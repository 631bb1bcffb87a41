// SPDX-License-Identifier: Apache-2.0
#include "worker/host.h"

#include <chrono>
#include <utility>

#include "worker/session.h"

namespace pyinfer {

WorkerHost::~WorkerHost() = default;

void WorkerHost::Attach(LaneMemoryPtr requests, LaneMemoryPtr answers, std::function<void()> kill) {
  auto session = std::make_shared<WorkerSession>(std::move(requests), std::move(answers), std::move(kill));
  {
    std::lock_guard<std::mutex> lock(mutex_);
    session_ = std::move(session);
  }
  changed_.notify_all();
}

void WorkerHost::End(const Status& reason) {
  std::shared_ptr<WorkerSession> session;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    session = std::move(session_);
    session_ = nullptr;
  }
  if (session) session->End(reason);
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
  changed_.wait(lock, [this] { return closed_ || (session_ && !session_->ended()); });
  return session_ && !session_->ended() ? session_ : nullptr;
}

bool WorkerHost::WaitReady() { return WaitSession() != nullptr; }

void WorkerHost::Execute(Batch& batch) {
  for (;;) {
    const std::shared_ptr<WorkerSession> session = WaitSession();
    if (!session) return batch.FailOpen(closed_reason_);
    const WorkerSession::Outcome outcome = session->Execute(batch, execution_limit_);
    if (outcome == WorkerSession::Outcome::kNotBegun) continue;
    if (outcome == WorkerSession::Outcome::kDone) executed_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
}

void WorkerHost::WaitLate() {
  constexpr std::chrono::milliseconds kLook(20);
  std::unique_lock<std::mutex> lock(mutex_);
  while (!closed_ && session_ && session_->has_late()) changed_.wait_for(lock, kLook);
}

void WorkerHost::Stop() {
  std::shared_ptr<WorkerSession> session;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    session = session_;
  }
  if (session) session->Stop();
}

}  // namespace pyinfer
