// SPDX-License-Identifier: Apache-2.0
#include "worker/call_server.h"

#include <chrono>
#include <utility>

namespace pyinfer {
namespace {

constexpr TimeNs kLong = 60'000'000'000;
constexpr TimeNs kLook = 25'000'000;

}  // namespace

// Hands what comes back on.
class CallServer::Forwarded final : public ModelCall {
 public:
  Forwarded(std::shared_ptr<Engine> engine, std::weak_ptr<CallServer> server, uint64_t number)
      : ModelCall(std::move(engine)), server_(std::move(server)), number_(number) {}

 protected:
  void Deliver(Response response, bool final) noexcept override {
    if (const auto server = server_.lock()) server->Deliver(number_, std::move(response), final);
  }

 private:
  const std::weak_ptr<CallServer> server_;
  const uint64_t number_;
};

void CallServer::Serve() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (ended_ || listener_.joinable()) return;
  ++running_;
  listener_ = std::thread([this] { Listen(); });
}

void CallServer::End() {
  std::unordered_map<uint64_t, std::shared_ptr<ModelCall>> open;
  std::deque<Pending> unsent;  // let go of without the lock
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
    open.swap(calls_);
    unsent.swap(backlog_);
  }
  changed_.notify_all();
  reader_.Wake();
  for (const auto& [number, call] : open) call->Abandon();
}

void CallServer::Stop() {
  End();
  std::unique_lock<std::mutex> lock(mutex_);
  // A thread that was about to sleep when it was woken is woken once more.
  while (running_ != 0) {
    reader_.Wake();
    changed_.wait_for(lock, std::chrono::milliseconds(1));
  }
  lock.unlock();
  for (std::thread* thread : {&listener_, &sender_}) {
    if (thread->joinable()) thread->join();
  }
}

void CallServer::Listen() {
  for (;;) {
    reader_.Wait(kLong);
    for (;;) {
      {
        std::lock_guard<std::mutex> lock(mutex_);
        if (ended_) {
          --running_;
          changed_.notify_all();
          return;
        }
      }
      StatusOr<std::optional<Slice>> message = reader_.TryTake();
      if (message.ok() && !message.value()) break;
      const Status status = message.ok() ? Take(*message.value()) : message.status();
      if (status.ok()) continue;
      hooks_.broken(status);
      End();
    }
  }
}

Status CallServer::Take(const Slice& message) {
  StatusOr<MessageKind> kind = KindOf(message);
  if (!kind.ok()) return kind.status();
  if (kind.value() == MessageKind::kCall) return Start(message);
  StatusOr<uint64_t> cancelled = ReadCancel(message);
  if (!cancelled.ok()) return cancelled.status();
  std::shared_ptr<ModelCall> call;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = calls_.find(cancelled.value());
    if (found != calls_.end()) call = found->second;
  }
  if (call) call->Cancel();  // otherwise it was answered meanwhile
  return Status();
}

Status CallServer::Start(const Slice& message) {
  std::shared_ptr<Forwarded> made;
  StatusOr<WorkerCall> read = ReadCall(
      message, [&](uint64_t number) { return made = std::make_shared<Forwarded>(engine_, weak_from_this(), number); });
  if (!read.ok()) return read.status();
  WorkerCall call = std::move(read).value();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (call.terms.number <= last_) return Status::InvalidArg("the number of another call");
    last_ = call.terms.number;
    if (ended_) return Status();  // dropping the request answers it, and nobody is told
    calls_.emplace(call.terms.number, made);
  }
  if (!engine_) {
    call.request->Fail(FailureReason::kOther, Status::Unavailable("there is no server to call models of"));
    return Status();
  }
  made->Start(std::move(call.request), hooks_.origin(call.terms, engine_->Now()), call.terms.decoupled);
  return Status();
}

void CallServer::Deliver(uint64_t number, Response response, bool final) {
  std::shared_ptr<ModelCall> done;  // let go of without the lock
  std::lock_guard<std::mutex> lock(mutex_);
  if (ended_) return;
  if (const auto found = calls_.find(number); final && found != calls_.end()) {
    done = std::move(found->second);
    calls_.erase(found);
  }
  Pending pending{number, std::move(response), final};
  if (backlog_.empty() && TrySendLocked(pending)) return;
  backlog_.push_back(std::move(pending));
  if (sender_.joinable()) return changed_.notify_all();
  ++running_;
  sender_ = std::thread([this] { SendBacklog(); });
}

bool CallServer::TrySendLocked(const Pending& pending) {
  if (!writer_.has_room()) return false;
  MessageWriter writer(MessageKind::kResponse);
  WriteCallResponse(writer, pending.number, pending.response, pending.final);
  StatusOr<uint8_t*> message = writer_.Allocate(writer.size());
  if (!message.ok()) {
    // What can still be said is why there are no outputs.
    writer = MessageWriter(MessageKind::kResponse);
    WriteCallResponse(writer, pending.number, Response::Error(message.status()), pending.final);
    message = writer_.Allocate(writer.size());
    if (!message.ok()) return false;
  }
  writer.Write(message.value());
  return writer_.TrySend(message.value(), writer.size());
}

void CallServer::SendBacklog() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!ended_) {
    changed_.wait(lock, [this] { return ended_ || !backlog_.empty(); });
    while (!backlog_.empty() && TrySendLocked(backlog_.front())) backlog_.pop_front();
    if (ended_ || backlog_.empty()) continue;
    if (writer_.has_room()) {  // it is memory that there is none of
      changed_.wait_for(lock, std::chrono::nanoseconds(kLook));
      continue;
    }
    lock.unlock();
    writer_.WaitTaken(kLook);
    lock.lock();
  }
  --running_;
  changed_.notify_all();
}

}  // namespace pyinfer
