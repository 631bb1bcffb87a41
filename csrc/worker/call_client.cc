// SPDX-License-Identifier: Apache-2.0
#include "worker/call_client.h"

#include <chrono>
#include <utility>

#include "engine/model_call.h"

namespace pyinfer {
namespace {

constexpr TimeNs kSecond = 1'000'000'000;

}  // namespace

class CallClient::Remote final : public Call {
 public:
  Remote(std::shared_ptr<CallClient> client, uint64_t number) : client_(std::move(client)), number_(number) {}

  std::optional<Item> Next() override {
    for (;;) {
      if (std::optional<Item> item = Poll()) return item;
      if (ended()) return Poll();
      client_->Wait(*this);
    }
  }
  void Notify(std::shared_ptr<CallMailbox> mailbox, uint64_t number) override {
    Call::Notify(std::move(mailbox), number);
    client_->Listen(*this);
  }
  void Cancel() override {
    if (!ended()) client_->Cancel(number_);
  }

 private:
  friend class CallClient;
  const std::shared_ptr<CallClient> client_;
  const uint64_t number_;
};

StatusOr<std::shared_ptr<CallClient>> CallClient::Make(int calls, int responses) {
  StatusOr<LaneMemoryPtr> first = LaneMemory::Adopt(calls);
  StatusOr<LaneMemoryPtr> second = LaneMemory::Adopt(responses);
  if (!first.ok()) return first.status();
  if (!second.ok()) return second.status();
  return std::shared_ptr<CallClient>(new CallClient(std::move(first).value(), std::move(second).value()));
}

CallClient::~CallClient() {
  std::unique_lock<std::mutex> lock(mutex_);
  stopping_ = true;
  if (!listener_.joinable()) return;
  // A thread that was about to sleep when it was woken is woken once more.
  while (stopping_) {
    changed_.notify_all();
    reader_.Wake();
    changed_.wait_for(lock, std::chrono::milliseconds(1));
  }
  lock.unlock();
  listener_.join();
}

std::shared_ptr<Call> CallClient::Start(const Request& request, CallTerms terms) {
  std::lock_guard<std::mutex> sending(sending_);
  terms.number = ++last_;
  auto call = std::make_shared<Remote>(shared_from_this(), terms.number);
  MessageWriter writer(MessageKind::kCall);
  WriteCall(writer, terms, request);
  StatusOr<uint8_t*> message = writer_.Allocate(writer.size());
  if (!message.ok()) return Refuse(request, message.status());
  {
    std::lock_guard<std::mutex> lock(mutex_);
    calls_.emplace(terms.number, Open{call});
  }
  writer.Write(message.value());
  while (!writer_.TrySend(message.value(), writer.size())) writer_.WaitTaken(kSecond);
  return call;
}

std::shared_ptr<Call> CallClient::Refuse(const Request& request, const Status& reason) {
  auto call = std::make_shared<Remote>(shared_from_this(), 0);
  call->Put({Response::Error(CallRefusal(request.model_name, reason)), true});
  return call;
}

void CallClient::Cancel(uint64_t number) {
  std::lock_guard<std::mutex> sending(sending_);
  MessageWriter writer(MessageKind::kCancel);
  WriteCancel(writer, number);
  StatusOr<uint8_t*> message = writer_.Allocate(writer.size());
  if (!message.ok()) return;
  writer.Write(message.value());
  while (!writer_.TrySend(message.value(), writer.size())) writer_.WaitTaken(kSecond);
}

void CallClient::TakeLocked(std::unique_lock<std::mutex>& lock) {
  taking_ = true;
  lock.unlock();
  reader_.Wait(kSecond);
  lock.lock();
  for (;;) {
    StatusOr<std::optional<Slice>> message = reader_.TryTake();
    if (!message.ok()) std::abort();  // the server does not write such
    if (!message.value()) break;
    StatusOr<CallResponse> response = ReadCallResponse(*message.value());
    if (!response.ok()) std::abort();
    const auto found = calls_.find(response->number);
    if (found == calls_.end()) continue;
    const std::shared_ptr<Remote> call = found->second.call.lock();
    if (response->final) {
      if (found->second.listening) --listening_;
      calls_.erase(found);
    }
    if (call) call->Put({std::move(response->response), response->final});
  }
  taking_ = false;
  changed_.notify_all();
}

void CallClient::Wait(const Remote& call) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (call.has_news()) return;
  if (taking_) {
    changed_.wait(lock);
  } else {
    TakeLocked(lock);
  }
}

void CallClient::Listen(const Remote& call) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = calls_.find(call.number_);
  if (found == calls_.end() || std::exchange(found->second.listening, true)) return;
  ++listening_;
  if (!listener_.joinable()) listener_ = std::thread([this] { ListenForLoops(); });
  changed_.notify_all();
}

void CallClient::ListenForLoops() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || (!taking_ && listening_ != 0); });
    if (stopping_) break;
    TakeLocked(lock);
  }
  stopping_ = false;
  changed_.notify_all();
}

}  // namespace pyinfer
