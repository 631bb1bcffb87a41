// SPDX-License-Identifier: Apache-2.0
#include "worker/host.h"

#include <chrono>
#include <utility>

#include "worker/session.h"

namespace pyinfer {

WorkerHost::~WorkerHost() = default;

void WorkerHost::Announce(const WorkerLanes& lanes, std::function<void()> kill) {
  auto session = std::make_shared<WorkerSession>(lanes, engine_, std::move(kill));
  std::lock_guard<std::mutex> lock(mutex_);
  session_ = std::move(session);
}

void WorkerHost::ServeCalls() {
  if (const std::shared_ptr<WorkerSession> session = Session()) session->ServeCalls();
}

void WorkerHost::Attach() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ready_ = session_ != nullptr;
  }
  changed_.notify_all();
}

void WorkerHost::End(const Status& reason) {
  std::shared_ptr<WorkerSession> session;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    session.swap(session_);
    ready_ = false;
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

std::shared_ptr<WorkerSession> WorkerHost::Session() {
  std::lock_guard<std::mutex> lock(mutex_);
  return session_;
}

std::shared_ptr<WorkerSession> WorkerHost::WaitSession() {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto is_ready = [this] { return ready_ && !session_->ended(); };
  changed_.wait(lock, [&] { return closed_ || is_ready(); });
  return is_ready() ? session_ : nullptr;
}

bool WorkerHost::WaitReady() { return WaitSession() != nullptr; }

void WorkerHost::Execute(Batch& batch, const std::shared_ptr<Model>& model, size_t instance) {
  for (;;) {
    const std::shared_ptr<WorkerSession> session = WaitSession();
    if (!session) return batch.FailOpen(closed_reason_);
    const WorkerSession::Outcome outcome = session->Execute(batch, execution_limit_, {model, instance});
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
  if (const std::shared_ptr<WorkerSession> session = Session()) session->Stop();
}

}  // namespace pyinfer
