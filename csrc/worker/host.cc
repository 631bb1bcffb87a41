// SPDX-License-Identifier: Apache-2.0
#include "worker/host.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "worker/session.h"

namespace pyinfer {

WorkerHost::~WorkerHost() = default;

std::shared_ptr<WorkerSession> WorkerHost::Announce(const WorkerLanes& lanes, std::function<void()> kill) {
  auto session = std::make_shared<WorkerSession>(lanes, engine_, std::move(kill));
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
