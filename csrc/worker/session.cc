// SPDX-License-Identifier: Apache-2.0
#include "worker/session.h"

#include <algorithm>
#include <utility>

#include "base/burst.h"

namespace pyinfer {
namespace {

uint64_t NextNumber() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

TimeNs Now() { return SystemClock().Now(); }

// Copies what a worker could still write to, or would never have back.
void CopyOutputs(std::vector<Tensor>& outputs) {
  for (Tensor& output : outputs) {
    if (output.data.foreign()) output.data = Slice::Copy(output.data.data(), output.data.size());
  }
}

// Whether the answer to the request is kept, or read more than once.
bool IsReadTwice(const Request& request) {
  const auto classified = [](const RequestedOutput& output) { return output.classification != 0; };
  return request.model->cached || request.model->sequence ||
         std::any_of(request.requested_outputs.begin(), request.requested_outputs.end(), classified);
}

// Whether those who make its responses may have to wait.
bool IsRoomLimited(const Request& request) {
  if (!request.model->decoupled) return false;
  const auto sink = request.sink().lock();
  return sink && sink->limits_room();
}

Status Broken(const std::string& how) {
  return Status::Internal("the worker process of the model sent what can not be true: " + how);
}

}  // namespace

WorkerSession::WorkerSession(const WorkerLanes& lanes, std::shared_ptr<Engine> engine,
                             std::shared_ptr<PlacedInputs> inputs, std::function<void()> kill)
    : number_(NextNumber()),
      writer_(lanes.requests),
      reader_(lanes.answers, /*foreign=*/true),
      inputs_(std::move(inputs)),
      kill_(std::move(kill)),
      calls_(std::make_shared<CallServer>(
          std::move(engine), lanes,
          CallServer::Hooks{[this](const CallTerms& terms, TimeNs now) { return OriginOf(terms, now); },
                            [this](const Status& status) { Reject(status); }})) {}

WorkerSession::~WorkerSession() {
  calls_->Stop();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  late_changed_.notify_all();
  reader_.Wake();
  if (listener_.joinable()) listener_.join();
}

StatusOr<uint8_t*> WorkerSession::WriteLocked(const MessageWriter& writer, bool pinned) {
  StatusOr<uint8_t*> message = writer_.Allocate(writer.size(), pinned);
  if (message.ok()) writer.Write(message.value());
  return message;
}

Status WorkerSession::SendLocked(const uint8_t* message, uint64_t size) {
  if (writer_.TrySend(message, size)) return Status();
  return Status::Internal("the worker process of the model does not take what it is sent");
}

Status WorkerSession::SendLocked(const MessageWriter& writer) {
  const StatusOr<uint8_t*> message = WriteLocked(writer, /*pinned=*/false);
  return message.ok() ? SendLocked(message.value(), writer.size()) : message.status();
}

Status WorkerSession::SendBatchLocked(const Batch& batch, bool rings) {
  if (!introduced_) {
    MessageWriter model(MessageKind::kModel);
    WriteModel(model, batch.model());
    if (Status status = SendLocked(model); !status.ok()) return status;
    introduced_ = true;
  }
  std::vector<const Request*> requests;
  for (size_t i = 0; i < batch.size(); ++i) requests.push_back(&batch.request(i));
  MessageWriter writer(MessageKind::kBatch);
  const std::vector<Slice> handed = HandInputs(requests, writer);
  const auto take_back = [&] {
    for (const Slice& input : handed) inputs_->TakeBack(input);
  };
  WriteBatch(writer, requests, next_, batch.has_states(), rings);
  StatusOr<uint8_t*> message = WriteLocked(writer, /*pinned=*/true);
  if (!message.ok()) return take_back(), message.status();
  uint8_t* const signs = message.value() + writer.data_offset();
  for (size_t i = 0; i < requests.size(); ++i) {
    if (IsRoomLimited(*requests[i])) RequestSigns::At(signs, i).LimitRoom();
  }
  if (Status status = SendLocked(message.value(), writer.size()); !status.ok()) {
    writer_.Unpin(message.value());
    take_back();
    return status;
  }
  message_ = message.value();
  signs_ = signs;
  first_ = std::exchange(next_, next_ + batch.size());
  return Status();
}

Status WorkerSession::BeginLocked(Batch& batch, Executor executor, bool rings) {
  if (Status status = SendBatchLocked(batch, rings); !status.ok()) return status;
  batch.MarkPacked();
  batch_ = &batch;  // from here on others take its answers as well
  begun_ = Now();
  executor_ = std::move(executor);
  done_ = false;
  return Status();
}

bool WorkerSession::Begin(Batch& batch, Executor executor, bool rings) {
  const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
  return lock.owns_lock() && accepts() && BeginLocked(batch, std::move(executor), rings).ok();
}

WorkerSession::Outcome WorkerSession::Execute(Batch& batch, TimeNs limit, Executor executor) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!accepts()) return Outcome::kNotBegun;
    if (Status status = BeginLocked(batch, std::move(executor), /*rings=*/false); !status.ok()) {
      batch.FailOpen(status);
      return Outcome::kFailed;
    }
  }
  return Complete(batch, limit);
}

WorkerSession::Outcome WorkerSession::Complete(Batch& batch, TimeNs limit) {
  const TimeNs until = begun_ + limit;
  for (;;) {
    {
      const Burst burst;  // outlives the lock
      std::lock_guard<std::mutex> lock(mutex_);
      ListenLocked();
      if (done_ || ended()) return LeaveLocked(batch);
      TellLocked();
      if (limit != 0 && Now() >= until) {
        kill_();
        EndLocked({Code::kDeadlineExceeded, "the model '" + batch.model().name +
                                                "' did not execute the request within " +
                                                std::to_string(limit / 1'000'000) + " ms"});
        return LeaveLocked(batch);
      }
    }
    reader_.Wait(limit == 0 ? kLook : std::clamp(until - Now(), TimeNs{1}, kLook));
  }
}

BatchStarter::Progress WorkerSession::TryComplete(Batch& batch) {
  using Progress = BatchStarter::Progress;
  const Burst burst;  // outlives the lock
  const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || ended()) return Progress::kLeft;
  if (!done_) {
    const std::optional<uint64_t> size = reader_.NextSize();
    if (!size) return Progress::kNone;
    if (*size > kMostTaken) return Progress::kLeft;
    ListenLocked();
    if (!done_) return Progress::kLeft;
  }
  LeaveLocked(batch);
  return Progress::kCompleted;
}

void WorkerSession::Watch(const FutexSeen& other) {
  if (!ended()) reader_.WaitOr(other, kLook);
}

WorkerSession::Outcome WorkerSession::LeaveLocked(Batch& batch) {
  batch_ = nullptr;
  lent_ = Slice();
  executor_ = Executor();
  if (late_of_.find(message_) == late_of_.end()) writer_.Unpin(message_);
  if (done_) return Outcome::kDone;
  if (!writer_.drained()) return Outcome::kNotBegun;
  batch.FailOpen(reason_);
  return Outcome::kFailed;
}

void WorkerSession::Stop() {
  std::lock_guard<std::mutex> lock(mutex_);
  StopLocked();
}

bool WorkerSession::StopIdle() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (batch_ != nullptr || !late_.empty()) return false;
  StopLocked();
  return true;
}

void WorkerSession::StopLocked() {
  if (!accepts()) return;
  stopped_.store(true, std::memory_order_release);
  if (!SendLocked(MessageWriter(MessageKind::kStop)).ok()) kill_();
}

bool WorkerSession::has_late() {
  std::lock_guard<std::mutex> lock(mutex_);
  return !late_.empty();
}

void WorkerSession::End(const Status& reason) {
  calls_->End();
  const Burst burst;  // outlives the lock
  std::lock_guard<std::mutex> lock(mutex_);
  if (!ended()) {
    ListenLocked();  // what it could still say counts
    EndLocked(reason);
  }
  if (inputs_) inputs_->Forget(number_);
}

void WorkerSession::EndLocked(const Status& reason) {
  if (ended()) return;
  reason_ = reason;
  ended_.store(true, std::memory_order_release);
  for (auto& [number, late] : late_) late.responder->Fail(reason, /*final=*/true);
  for (const auto& [number, late] : late_) room_->Forget(number);
  late_.clear();
  late_of_.clear();
  reader_.Wake();
}

void WorkerSession::ListenLocked() {
  while (!ended()) {
    StatusOr<std::optional<Slice>> message = reader_.TryTake();
    if (message.ok() && !message.value()) return;
    Status status = message.status();
    if (status.ok()) {
      StatusOr<WorkerAnswers> answers =
          ReadAnswers(*message.value(), [this](Place place, uint64_t size) { return LendLocked(place, size); });
      message = std::optional<Slice>();  // gives it back
      status = answers.ok() ? TakeLocked(std::move(answers).value()) : answers.status();
    }
    if (status.ok()) continue;
    kill_();
    EndLocked(Broken(status.message()));
  }
}

Status WorkerSession::TakeLocked(WorkerAnswers answers) {
  for (WorkerAnswer& answer : answers.answers) {
    if (Status status = TakeOneLocked(std::move(answer)); !status.ok()) return status;
  }
  return answers.done ? FinishLocked(answers) : Status();
}

std::optional<size_t> WorkerSession::OpenIndex(uint64_t number) const {
  if (batch_ == nullptr || number < first_ || number - first_ >= batch_->size()) return std::nullopt;
  const size_t index = number - first_;
  return batch_->open(index) ? std::optional<size_t>(index) : std::nullopt;
}

Status WorkerSession::TakeOneLocked(WorkerAnswer answer) {
  if (answer.apart) return TakeApartLocked(std::move(answer));
  const std::optional<size_t> index = OpenIndex(answer.request);
  if (!index || answer.response.only_ends) return Status::InvalidArg("an answer to no request");
  Response& response = answer.response;
  if (response.status.ok()) {
    if (IsReadTwice(batch_->request(*index))) CopyOutputs(response.outputs);
    batch_->Respond(*index, std::move(response.outputs), std::move(response.parameters));
  } else {
    batch_->Fail(*index, std::move(response.status));
  }
  return Status();
}

Status WorkerSession::TakeApartLocked(WorkerAnswer answer) {
  if (const std::optional<size_t> index = OpenIndex(answer.request)) {
    if (batch_->has_states()) return Status::InvalidArg("a response apart from a batch that has states");
    DetachLocked(*index);
  }
  const auto late = late_.find(answer.request);
  if (late == late_.end()) return Status();  // it was ended meanwhile
  Responder& responder = *late->second.responder;
  Response& response = answer.response;
  // One response ends a request to a model that is not decoupled, whatever is said of it.
  const bool final = answer.final || !responder.decoupled();
  if (response.only_ends) {
    responder.End();
  } else if (!response.status.ok()) {
    responder.Fail(std::move(response.status), final);
  } else {
    CopyOutputs(response.outputs);
    responder.Send(std::move(response.outputs), std::move(response.parameters), final);
  }
  if (responder.ended()) {
    ForgetLocked(answer.request);
  } else if (late->second.room_limited) {
    room_->NoteResponse(answer.request, ++late->second.responses, responder, *late->second.signs);
  }
  return Status();
}

Status WorkerSession::FinishLocked(const WorkerAnswers& answers) {
  if (batch_ == nullptr || done_) return Status::InvalidArg("the end of no batch");
  for (const uint64_t number : answers.detached) {
    const std::optional<size_t> index = OpenIndex(number);
    if (!index) continue;  // it has had its last response
    if (batch_->has_states()) return Status::InvalidArg("a response apart from a batch that has states");
    DetachLocked(*index);
  }
  for (const uint64_t number : answers.rescheduled) {
    const auto late = late_.find(number);
    const bool is_late = late != late_.end();
    if (number < first_ || number - first_ >= batch_->size() || !batch_->may_reschedule(number - first_)) {
      return Status::InvalidArg("a request that can not be executed again");
    }
    batch_->Reschedule(number - first_, is_late ? late->second.responder.get() : nullptr);
    if (is_late) ForgetLocked(number);
  }
  done_ = true;
  return Status();
}

void WorkerSession::DetachLocked(size_t index) {
  const Request& request = batch_->request(index);
  Late late{nullptr,  request.trace,         CallParent::Of(request), &RequestSigns::At(signs_, index),
            message_, IsRoomLimited(request)};
  late.responder = batch_->Detach(index);
  late_.emplace(first_ + index, std::move(late));
  ++late_of_[message_];
  if (!listener_.joinable()) listener_ = std::thread([this] { ListenForLate(); });
  late_changed_.notify_all();
}

void WorkerSession::ForgetLocked(uint64_t number) {
  const auto late = late_.find(number);
  const uint8_t* const message = late->second.message;
  room_->Forget(number);
  late_.erase(late);
  if (--late_of_[message] != 0) return;
  late_of_.erase(message);
  if (batch_ == nullptr || message != message_) writer_.Unpin(message);
}

void WorkerSession::TellLocked() {
  for (size_t i = 0; batch_ != nullptr && i < batch_->size(); ++i) {
    if (batch_->open(i) && batch_->request(i).cancelled()) RequestSigns::At(signs_, i).Cancel();
  }
  for (const auto& [number, late] : late_) {
    if (late.responder->cancelled()) late.signs->Cancel();
  }
  room_->Look();
}

void WorkerSession::Reject(const Status& status) {
  const Burst burst;  // outlives the lock
  std::lock_guard<std::mutex> lock(mutex_);
  if (ended()) return;
  kill_();
  EndLocked(Broken(status.message()));
}

void WorkerSession::ListenForLate() {
  for (;;) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      late_changed_.wait(lock, [this] { return stopping_ || (!late_.empty() && !ended()); });
      if (stopping_) return;
    }
    reader_.Wait(kLook);
    const Burst burst;  // outlives the lock
    std::lock_guard<std::mutex> lock(mutex_);
    ListenLocked();
    TellLocked();
  }
}

}  // namespace pyinfer
