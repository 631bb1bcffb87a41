// SPDX-License-Identifier: Apache-2.0
#include "worker/guest.h"

#include <cstdlib>
#include <utility>

namespace pyinfer {
namespace {

constexpr TimeNs kSecond = 1'000'000'000;

// The guest whose batch this thread is finishing: what is answered meanwhile is sent at the end, in one message.
thread_local const Guest* finishing = nullptr;

const Clock& ClockOfWorker() {
  static const SystemClock clock;
  return clock;
}

}  // namespace

// Hands the responses of one request on.
class Guest::Sink final : public CompletionSink {
 public:
  Sink(std::shared_ptr<Guest> guest, uint64_t number, const RequestSigns& signs, Slice message)
      : guest_(std::move(guest)), number_(number), signs_(signs), message_(std::move(message)) {}

  void Send(const Request&, Response response, bool final) noexcept override {
    sent_.fetch_add(1, std::memory_order_relaxed);
    if (!muted_) guest_->Answer(number_, std::move(response), final);
  }
  bool cancelled() const noexcept override { return signs_.cancelled(); }
  void WaitForRoom(const Producer&) const override { signs_.WaitForRoom(sent_.load(std::memory_order_relaxed)); }
  void Mute() { muted_ = true; }
  uint64_t number() const { return number_; }

 private:
  const std::shared_ptr<Guest> guest_;
  const uint64_t number_;
  const RequestSigns& signs_;
  const Slice message_;  // where they are
  std::atomic<uint32_t> sent_{0};
  bool muted_ = false;
};

// Told of the requests that are to be executed once more: nobody here answers them.
class Guest::Observer final : public ExecutionObserver {
 public:
  explicit Observer(Guest& guest) : guest_(guest) {}

  void OnExecuted(int64_t, const ExecutionTimes&) noexcept override {}
  void OnRescheduled(RequestPtr request) noexcept override {
    for (size_t i = 0; i < guest_.requests_.size(); ++i) {
      if (guest_.requests_[i] == request.get()) guest_.Reschedule(i);
    }
  }

 private:
  Guest& guest_;
};

StatusOr<std::shared_ptr<Guest>> Guest::Make(int requests, int answers, int inputs, int doorbell) {
  auto ringer = std::make_unique<DoorbellRinger>(doorbell);
  StatusOr<LaneMemoryPtr> in = LaneMemory::Adopt(requests);
  StatusOr<LaneMemoryPtr> out = LaneMemory::Adopt(answers);
  StatusOr<LaneMemoryPtr> placed = inputs < 0 ? LaneMemoryPtr() : LaneMemory::Adopt(inputs);
  for (const auto* memory : {&in, &out, &placed}) {
    if (!memory->ok()) return memory->status();
  }
  return {std::shared_ptr<Guest>(
      new Guest(std::move(in).value(), std::move(out).value(), std::move(placed).value(), std::move(ringer)))};
}

StatusOr<Batch> Guest::Next() {
  for (;;) {
    StatusOr<std::optional<Slice>> taken = reader_.TryTake();
    if (!taken.ok()) return taken.status();
    if (!taken.value()) {
      reader_.Wait(60 * kSecond);
      continue;
    }
    const Slice message = *std::move(taken).value();
    StatusOr<MessageKind> kind = KindOf(message);
    if (!kind.ok()) return kind.status();
    if (kind.value() == MessageKind::kStop) return {Batch()};
    if (kind.value() == MessageKind::kBatch && model_) return Take(message);
    StatusOr<std::shared_ptr<const ModelSpec>> model = ReadModel(message);
    if (!model.ok()) return model.status();
    model_ = std::move(model).value();
  }
}

std::optional<Slice> Guest::TakePlaced(Place place, uint64_t size) {
  if (!place.placed || !inputs_) return std::nullopt;
  StatusOr<Slice> input = TakeBlock(inputs_, place.offset, size);
  if (!input.ok()) return std::nullopt;
  places_.push_back(input.value());
  return std::move(input).value();
}

StatusOr<Batch> Guest::Take(const Slice& message) {
  requests_.clear();
  sinks_.clear();
  places_.assign(1, message);
  StatusOr<WorkerBatch> batch = ReadBatch(
      message, model_,
      [&](uint64_t number, const RequestSigns& signs) {
        auto sink = std::make_shared<Sink>(shared_from_this(), number, signs, message);
        sinks_.push_back(sink);
        return sink;
      },
      [this](Place place, uint64_t size) { return TakePlaced(place, size); });
  if (!batch.ok()) return batch.status();
  first_ = batch->first;
  {
    std::lock_guard<std::mutex> lock(mutex_);  // answers to earlier batches may still come
    rings_ = batch->rings;
  }
  for (const RequestPtr& request : batch->requests) requests_.push_back(request.get());
  const size_t states = batch->has_states && model_->sequence ? requests_.size() : 0;
  if (!observer_) observer_ = std::make_shared<Observer>(*this);
  const Clock& clock = ClockOfWorker();
  return {
      Batch(std::move(batch->requests), model_, observer_, clock, clock.Now(), std::vector<SequenceStatePtr>(states))};
}

void Guest::Finish(Batch& batch) {
  std::vector<uint64_t> detached;
  for (size_t i = 0; i < batch.size(); ++i) {
    if (batch.detached(i)) detached.push_back(first_ + i);
  }
  finishing = this;
  batch.Finish();
  finishing = nullptr;
  std::lock_guard<std::mutex> lock(mutex_);
  pending_.done = true;
  pending_.detached = std::move(detached);
  FlushLocked();
  rings_ = false;
  places_.clear();
}

void Guest::Reschedule(size_t index) {
  if (const std::shared_ptr<Sink> sink = sinks_[index].lock()) sink->Mute();
  std::lock_guard<std::mutex> lock(mutex_);
  pending_.rescheduled.push_back(first_ + index);
}

void Guest::Answer(uint64_t request, Response response, bool final) {
  const bool apart = finishing != this;
  std::lock_guard<std::mutex> lock(mutex_);
  pending_.answers.push_back({request, apart, final, std::move(response)});
  if (apart) FlushLocked();
}

void Guest::FlushLocked() {
  MessageWriter writer(MessageKind::kAnswers);
  for (size_t i = 0; pending_.done && i < places_.size(); ++i) {  // what is sent earlier may still be written to
    const uint8_t* const base = i == 0 ? places_[0].data() : inputs_->base();
    writer.Borrow(places_[i].view(), {i != 0, static_cast<uint64_t>(places_[i].data() - base)});
  }
  WriteAnswers(writer, pending_);
  StatusOr<uint8_t*> message = writer_.Allocate(writer.size());
  if (!message.ok()) {
    // What can still be said is why there are no outputs.
    for (WorkerAnswer& answer : pending_.answers) {
      if (!answer.response.outputs.empty()) answer.response = Response::Error(message.status());
    }
    writer = MessageWriter(MessageKind::kAnswers);
    WriteAnswers(writer, pending_);
    message = writer_.Allocate(writer.size());
    if (!message.ok()) std::abort();  // the server tells of it
  }
  writer.Write(message.value());
  while (!writer_.TrySend(message.value(), writer.size())) writer_.WaitTaken(kSecond);
  if (rings_) doorbell_->Ring();
  pending_ = WorkerAnswers();
}

}  // namespace pyinfer
