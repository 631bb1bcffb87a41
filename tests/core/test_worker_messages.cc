// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "scheduling.h"
#include "worker/futex.h"
#include "worker/lane.h"
#include "worker/message.h"

namespace pyinfer {
namespace {

using testing::Ints;
using testing::IntsOf;
using testing::KeepingSink;

LaneMemoryPtr NewMemory() {
  StatusOr<LaneMemoryPtr> memory = LaneMemory::Create();
  CHECK(memory.ok());
  return memory.value();
}

// The same memory as another process maps it.
LaneMemoryPtr OtherSide(const LaneMemoryPtr& memory) {
  StatusOr<LaneMemoryPtr> other = LaneMemory::Adopt(dup(memory->fd()));
  CHECK(other.ok());
  return other.value();
}

void Send(LaneWriter& writer, std::string_view text) {
  StatusOr<uint8_t*> message = writer.Allocate(text.size());
  CHECK(message.ok());
  std::memcpy(message.value(), text.data(), text.size());
  CHECK(writer.TrySend(message.value(), text.size()));
}

Slice Take(LaneReader& reader) {
  StatusOr<std::optional<Slice>> taken = reader.TryTake();
  CHECK(taken.ok() && taken.value());
  return *taken.value();
}

TEST(Lane, MessagesComeInOrderAndBlocksAreUsedAgain) {
  const LaneMemoryPtr memory = NewMemory();
  LaneWriter writer(memory);
  LaneReader reader(OtherSide(memory));
  for (int round = 0; round < 1000; ++round) {
    Send(writer, "one" + std::to_string(round));
    Send(writer, "two");
    CHECK(!writer.drained());
    CHECK_EQ(Take(reader).view(), "one" + std::to_string(round));
    CHECK_EQ(Take(reader).view(), "two");
    CHECK(writer.drained());
    CHECK(!reader.TryTake().value());
  }
  CHECK(writer.blocks() <= 2);
}

TEST(Lane, WhatIsHeldIsNotWrittenOver) {
  const LaneMemoryPtr memory = NewMemory();
  LaneWriter writer(memory);
  LaneReader reader(OtherSide(memory));
  std::vector<std::pair<std::string, Slice>> held;
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    // now and then more than the memory has: it grows, and what was mapped before stays where it is
    const size_t size = random() % 50 == 0 ? random() % 3'000'000 : random() % 2000;
    const std::string text(size, static_cast<char>(random()));
    Send(writer, text);
    held.emplace_back(text, Take(reader));
    if (held.size() > 20) held.erase(held.begin() + random() % 20);
  }
  for (const auto& [text, slice] : held) CHECK(slice.view() == text);
  held.clear();
  Send(writer, "x");
  CHECK_EQ(writer.blocks(), size_t{1});
}

TEST(Lane, APinnedBlockStays) {
  const LaneMemoryPtr memory = NewMemory();
  LaneWriter writer(memory);
  LaneReader reader(OtherSide(memory));
  const uint8_t* const pinned = writer.Allocate(10, true).value();
  CHECK(writer.TrySend(pinned, 10));
  Take(reader);
  CHECK(writer.Allocate(10).value() != pinned);
  writer.Unpin(pinned);
  CHECK(writer.Allocate(10).value() == pinned);
}

TEST(Lane, WhatIsLentIsNotWrittenOver) {
  const LaneMemoryPtr memory = NewMemory();
  LaneWriter writer(memory);
  LaneReader reader(OtherSide(memory));
  uint8_t* const message = writer.Allocate(5, true).value();
  std::memcpy(message, "bytes", 5);
  Slice lent(writer.Lend(message));
  CHECK(lent.foreign() && lent.data() == message);
  CHECK(writer.TrySend(message, 5));
  Take(reader);
  writer.Unpin(message);
  const Slice other = lent.Sub(0, 5);
  lent = Slice();
  CHECK(writer.Allocate(5).value() != message);
  CHECK_EQ(other.view(), "bytes");
}

TEST(Lane, WhatIsReturnedIsUsedAgain) {
  const LaneMemoryPtr memory = NewMemory();
  LaneWriter writer(memory);
  LaneReader reader(OtherSide(memory));
  uint8_t* const message = writer.Allocate(5, true).value();
  {
    const Slice lent(writer.Lend(message));
    CHECK(writer.TrySend(message, 5));
    Take(reader);
  }
  CHECK(writer.Allocate(5).value() != message);  // it is pinned
  writer.Unpin(message);
  CHECK(writer.Allocate(5).value() == message);
}

TEST(Lane, IsFullWhenNobodyReads) {
  const LaneMemoryPtr memory = NewMemory();
  LaneWriter writer(memory);
  LaneReader reader(OtherSide(memory));
  size_t sent = 0;
  for (;; ++sent) {
    uint8_t* const message = writer.Allocate(1).value();
    if (!writer.TrySend(message, 1)) break;
  }
  CHECK_EQ(sent, size_t{128});
  Take(reader);
  Send(writer, "x");
}

// A sleep that nothing ends lasts for longer than anybody waits for this test.
TEST(Lane, AReaderSleepsUntilThereIsAMessageOrSomethingElse) {
  if (!CanFutexWaitEither()) return;
  constexpr TimeNs kForEver = TimeNs{3600} * 1'000'000'000;
  const LaneMemoryPtr memory = NewMemory();
  LaneWriter writer(memory);
  LaneReader reader(OtherSide(memory));
  std::atomic<uint32_t> other{0};
  for (uint32_t round = 0; round < 200; ++round) {
    std::thread sending([&] {
      if (round % 2 == 0) return Send(writer, "here");
      ++other;
      FutexWake(other);
    });
    while (!reader.TryTake().value() && other == round / 2) reader.WaitOr({other, round / 2}, kForEver);
    sending.join();
    reader.WaitOr({other, round + 1000}, kForEver);  // it is not like that any more
  }
}

TEST(Lane, AReaderBelievesNothing) {
  for (uint64_t offset : {uint64_t{0}, uint64_t{64}, uint64_t{4097}, uint64_t{1} << 20, ~uint64_t{0} - 63}) {
    for (uint64_t size : {uint64_t{1}, uint64_t{1} << 20, uint64_t{1} << 40, ~uint64_t{0}}) {
      const LaneMemoryPtr memory = NewMemory();
      LaneWriter writer(memory);
      LaneReader reader(OtherSide(memory));
      Send(writer, "x");
      std::memcpy(memory->base() + 128, &offset, sizeof(offset));  // the first descriptor
      std::memcpy(memory->base() + 136, &size, sizeof(size));
      CHECK(!reader.TryTake().ok());
    }
  }
  const LaneMemoryPtr memory = NewMemory();
  LaneReader reader(memory);
  memory->base()[0] = 200;  // more messages than there is room for
  CHECK(!reader.TryTake().ok());
}

TEST(Lane, MemoryThatCouldBeTakenAwayIsRefused) {
  const int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  CHECK(ftruncate(fd, 1 << 20) == 0);
  CHECK(!LaneMemory::Adopt(fd).ok());
  const LaneMemoryPtr memory = NewMemory();
  CHECK(ftruncate(memory->fd(), 4096) != 0);
}

Slice Written(const MessageWriter& writer) {
  BufferPtr buffer = Buffer::Allocate(writer.size());
  writer.Write(buffer->data());
  return Slice(buffer, 0, writer.size());
}

Tensor Text(const std::string& name, const std::string& element) {
  const auto size = static_cast<uint32_t>(element.size());
  std::string data(reinterpret_cast<const char*>(&size), sizeof(size));
  data += element;
  return {name, DType::kBytes, {1}, Slice::Copy(data.data(), data.size())};
}

TEST(WorkerMessage, ABatchComesAsItWas) {
  const auto model = testing::Shared(testing::IntModel({8, true, {}, 0}));
  std::vector<RequestPtr> requests;
  for (int32_t i = 0; i < 3; ++i)
    requests.push_back(testing::IntRequest(model, std::make_shared<KeepingSink>(), 2, 3, i));
  Request& first = *requests[0];
  first.id = "an id";
  first.correlation_id = {7, "text"};
  first.flags = kSequenceStart;
  first.priority = 2;
  first.timeout_us = 9;
  first.requested_outputs = {{"OUT"}};
  first.parameters = {{"a", true}, {"b", int64_t{-1}}, {"c", uint64_t{1}}, {"d", 0.5}, {"e", std::string("x")}};
  first.inputs.push_back(Text("T", "hello"));
  std::vector<const Request*> pointers;
  for (const RequestPtr& request : requests) pointers.push_back(request.get());
  MessageWriter writer(MessageKind::kBatch);
  WriteBatch(writer, pointers, 40, /*has_states=*/true, /*rings=*/true);
  const Slice message = Written(writer);
  CHECK(KindOf(message).value() == MessageKind::kBatch);
  std::vector<uint64_t> numbers;
  StatusOr<WorkerBatch> batch = ReadBatch(message, model, [&](uint64_t number, const RequestSigns& signs) {
    CHECK(!signs.cancelled());
    numbers.push_back(number);
    return std::make_shared<KeepingSink>();
  });
  CHECK(batch.ok() && batch->has_states && batch->rings);
  CHECK(numbers == (std::vector<uint64_t>{40, 41, 42}));
  const Request& read = *batch->requests.at(0);
  CHECK_EQ(read.id, "an id");
  CHECK(read.correlation_id.number == 7 && read.correlation_id.text == "text");
  CHECK(read.flags == kSequenceStart && read.priority == 2 && read.timeout_us == 9);
  CHECK_EQ(read.requested_outputs.at(0).name, "OUT");
  CHECK(read.parameters == first.parameters);
  CHECK(read.inputs.at(1).data.view() == first.inputs[1].data.view());
  for (size_t i = 0; i < 3; ++i) {
    const Tensor& input = batch->requests[i]->inputs.at(0);
    CHECK(input.shape == (Shape{2, 3}) && IntsOf(input.data) == std::vector<int32_t>(6, static_cast<int32_t>(i)));
    CHECK_EQ(reinterpret_cast<uintptr_t>(input.data.data()) % 16, uintptr_t{0});
  }
}

WorkerAnswers SomeAnswers(size_t width) {
  WorkerAnswers answers;
  answers.done = true;
  answers.detached = {2};
  answers.rescheduled = {3};
  Response response;
  response.outputs = {{"OUT", DType::kInt32, {static_cast<int64_t>(width)}, Ints(std::vector<int32_t>(width, 5))},
                      Text("T", "hello")};
  response.parameters = {{"p", std::string("x")}};
  answers.answers.push_back({0, true, false, response});
  answers.answers.push_back({1, false, true, Response::Error(Status::InvalidArg("no"))});
  return answers;
}

TEST(WorkerMessage, AnswersComeAsTheyWere) {
  for (const size_t width : {size_t{0}, size_t{3}, size_t{1} << 20}) {
    MessageWriter writer(MessageKind::kAnswers);
    const WorkerAnswers sent = SomeAnswers(width);
    WriteAnswers(writer, sent);
    StatusOr<WorkerAnswers> read = ReadAnswers(Written(writer));
    CHECK(read.ok() && read->done);
    CHECK(read->detached == sent.detached && read->rescheduled == sent.rescheduled);
    const WorkerAnswer& first = read->answers.at(0);
    CHECK(first.apart && !first.final && first.request == 0);
    CHECK(first.response.outputs.at(0).data.view() == sent.answers[0].response.outputs[0].data.view());
    CHECK(first.response.outputs.at(1).data.view() == sent.answers[0].response.outputs[1].data.view());
    CHECK(first.response.parameters == sent.answers[0].response.parameters);
    const WorkerAnswer& second = read->answers.at(1);
    CHECK(!second.apart && second.final && second.response.status.code() == Code::kInvalidArg);
    CHECK_EQ(second.response.status.message(), "no");
  }
}

// Has `bytes` at `from`, in what was sent or among the placed inputs.
Lender LenderOf(bool placed, uint64_t from, const Slice& bytes) {
  return [=](Place place, uint64_t size) -> std::optional<Slice> {
    if (place.placed != placed || place.offset < from) return std::nullopt;
    const uint64_t offset = place.offset - from;
    if (offset > bytes.size() || size > bytes.size() - offset) return std::nullopt;
    return bytes.Sub(offset, size);
  };
}

// Large outputs that lie among the inputs of the batch that they answer are told of by their place there; what none of
// them has is not read.
void CheckBorrowed(Place place) {
  constexpr size_t kWidth = 100'000;
  const Slice batch = Ints(std::vector<int32_t>(2 * kWidth, 7));
  WorkerAnswers sent;
  Response response;
  for (const size_t offset : {size_t{0}, kWidth}) {
    response.outputs.push_back({"OUT", DType::kInt32, {int64_t{kWidth}}, batch.Sub(4 * offset, 4 * kWidth)});
  }
  response.outputs.push_back({"SMALL", DType::kInt32, {2}, batch.Sub(0, 8)});
  sent.answers.push_back({0, false, true, response});
  MessageWriter writer(MessageKind::kAnswers);
  writer.Borrow("elsewhere", {!place.placed, 0});
  writer.Borrow(batch.view(), place);
  WriteAnswers(writer, sent);
  const Slice message = Written(writer);
  CHECK(message.size() < 1000);
  StatusOr<WorkerAnswers> read = ReadAnswers(message, LenderOf(place.placed, place.offset, batch));
  CHECK(read.ok());
  const std::vector<Tensor>& outputs = read->answers.at(0).response.outputs;
  CHECK(outputs.at(0).data.data() == batch.data() && outputs.at(0).data.size() == 4 * kWidth);
  CHECK(outputs.at(1).data.data() == batch.data() + 4 * kWidth && outputs.at(1).data.size() == 4 * kWidth);
  CHECK(outputs.at(2).data.view() == batch.Sub(0, 8).view());
  CHECK(!ReadAnswers(message).ok());
  CHECK(!ReadAnswers(message, LenderOf(!place.placed, place.offset, batch)).ok());
  CHECK(!ReadAnswers(message, LenderOf(place.placed, place.offset, batch.Sub(0, 8 * kWidth - 1))).ok());
}

TEST(WorkerMessage, OutputsAreBorrowed) {
  CheckBorrowed({/*placed=*/false, 0});
  CheckBorrowed({/*placed=*/true, 4160});
}

// Whatever bytes come, they are read without a fault, and outputs that are believed fit their shapes.
TEST(WorkerMessage, NoBytesAreBelieved) {
  std::mt19937 random(2);
  for (const size_t width : {size_t{3}, size_t{100'000}}) {
    MessageWriter writer(MessageKind::kAnswers);
    const WorkerAnswers sent = SomeAnswers(width);
    WriteAnswers(writer, sent);
    const Slice good = Written(writer);
    const size_t described = writer.data_offset();
    for (int round = 0; round < (width == 3 ? 20000 : 500); ++round) {
      BufferPtr bad = Buffer::Allocate(good.size());
      std::memcpy(bad->data(), good.data(), good.size());
      for (size_t faults = random() % 3 + 1; faults > 0; --faults) {
        const size_t at = random() % described;
        bad->data()[at] = random() % 2 == 0 ? static_cast<uint8_t>(random()) : static_cast<uint8_t>(0xff);
      }
      const size_t size = random() % 4 == 0 ? random() % good.size() : good.size();
      StatusOr<WorkerAnswers> read = ReadAnswers(Slice(bad, 0, size));
      if (!read.ok()) continue;
      for (const WorkerAnswer& answer : read->answers) {
        for (const Tensor& output : answer.response.outputs) {
          const auto count = ElementCount(output.shape);
          CHECK(count.has_value());
          if (output.dtype != DType::kBytes) CHECK_EQ(output.data.size(), *count * DTypeSize(output.dtype));
        }
      }
    }
  }
}

}  // namespace
}  // namespace pyinfer
