// SPDX-License-Identifier: Apache-2.0
#include "protocol/connection.h"

#include <algorithm>
#include <utility>

namespace pyinfer {
namespace {

// A delivery that only wakes the loop.
class Nudge final : public Delivery {
 public:
  void Deliver() override {}
};

}  // namespace

void Mailbox::OnEarlierExpiry() noexcept { Post(std::make_shared<Nudge>()); }

void Mailbox::MarkReady(Connection& connection) {
  if (std::exchange(connection.marked_, true)) return;
  ready_.push_back(connection.weak_from_this());
}

TimeNs Mailbox::NextFlush() const {
  if (!ready_.empty()) return 1;
  const TimeNs expiry = acceptor_->NextExpiry();
  const TimeNs timer = timers_.empty() ? 0 : timers_.begin()->first;
  if (expiry == 0 || timer == 0) return std::max(expiry, timer);
  return std::min(expiry, timer);
}

void Mailbox::RunTimers() {
  if (timers_.empty()) return;
  const TimeNs now = acceptor_->Now();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    auto expire = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    expire();
  }
}

std::vector<Written> Mailbox::Flush(bool rung) {
  // Answers given while requests are dispatched are collected below: they need not wake the loop.
  queue_.set_collecting(true);
  if (rung) acceptor_->TakeAnswers();
  RunTimers();
  acceptor_->Dispatch();
  queue_.set_collecting(false);
  for (const auto& delivery : queue_.Collect()) delivery->Deliver();

  std::vector<Written> written;
  std::vector<std::weak_ptr<Connection>> ready;
  ready.swap(ready_);
  written.reserve(ready.size());
  for (const auto& weak : ready) {
    const std::shared_ptr<Connection> connection = weak.lock();
    if (!connection) continue;
    connection->marked_ = false;
    Written item{connection->id(), Output(), false, false};
    item.close = connection->TakeOutput(item.output);
    item.has_events = connection->has_events();
    if (item.close || item.has_events || !item.output.empty()) written.push_back(std::move(item));
  }
  return written;
}

}  // namespace pyinfer
