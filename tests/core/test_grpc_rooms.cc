// SPDX-License-Identifier: Apache-2.0
// Large tensors that are read to the room that their model has for them.
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "grpc_targets.h"
#include "wire/gzip.h"

namespace pyinfer {
namespace {

using testing::CheckedRoom;
using testing::Data;
using testing::Framed;
using testing::InferMessage;
using testing::kEndStream;
using testing::kFrameHead;
using testing::kReadBuffer;
using testing::LargePair;
using testing::Pattern;

// A large tensor of a model that has room for it is read to there, whatever the frames are, and nothing else is.
TEST(GrpcRooms, TensorsAreReadToTheRoomOfTheirModel) {
  const std::string data = Pattern(3'000'000);
  for (const uint32_t frame : {16384u, 100'000u, 1u << 20}) {
    for (const size_t most : {size_t{70'001}, kReadBuffer}) {
      LargePair pair(most);
      pair.client.largest_frame = frame;
      pair.engine->room = std::make_shared<CheckedRoom>();
      const int32_t a = pair.Infer(data);
      const int32_t b = pair.Infer(data.substr(1));
      const size_t placed = pair.Read();
      CHECK(frame == 16384 || placed > data.size());
      pair.Exchange();
      pair.CheckAnswered(a, data);
      pair.CheckAnswered(b, data.substr(1));
      CHECK_EQ(pair.engine->room->inputs.size(), size_t{2});
      std::vector<std::string> found;
      for (const BufferPtr& input : pair.engine->room->inputs) found.emplace_back(Slice(input).view());
      CHECK((found == std::vector<std::string>{data, data.substr(1)}) ||
            (found == std::vector<std::string>{data.substr(1), data}));
      pair.engine->room->CheckBehind();
      CHECK(pair.connection->target().owner == nullptr);
    }
  }
}

// The head of the next frame is nobody's but the connection's: whoever else has the room could write to it.
TEST(GrpcRooms, NoFrameHeadIsReadToARoom) {
  LargePair pair(100'000);
  pair.engine->room = std::make_shared<CheckedRoom>();
  const std::string message = Framed(InferMessage(Pattern(600'000)));
  const int32_t stream = pair.Open();
  pair.unread += Data(stream, std::string_view(message).substr(0, 200'000));
  pair.Read(70'000);
  CHECK(pair.connection->target().exact);
  CHECK_EQ(pair.connection->target().size, size_t{70'000});
  pair.Read();
  CHECK(pair.connection->target().data == nullptr);
  CHECK_EQ(pair.connection->target().size, kFrameHead);
  pair.unread += Data(stream, std::string_view(message).substr(200'000), kEndStream);
  CHECK_EQ(pair.Read(), message.size() - 200'000);
  pair.SayEnded(stream);
  pair.Exchange();
  pair.CheckAnswered(stream, Pattern(600'000));
  pair.engine->room->CheckBehind();
}

TEST(GrpcRooms, AModelMayHaveNoRoom) {
  const std::string data = Pattern(900'000);
  for (const size_t most : {size_t{0}, size_t{899'999}}) {
    LargePair pair(100'000);
    pair.engine->room = std::make_shared<CheckedRoom>();
    pair.engine->room->most = most;
    const int32_t stream = pair.Infer(data);
    CHECK(pair.Read() > 700'000);
    pair.Exchange();
    pair.CheckAnswered(stream, data);
    CHECK(pair.engine->room->inputs.empty());
  }
}

// What is compressed is read as it came, and what no model has is refused as ever.
TEST(GrpcRooms, OnlyPlainTensorsAreReadToARoom) {
  LargePair pair(100'000);
  pair.engine->room = std::make_shared<CheckedRoom>();
  std::mt19937 random(2);
  std::string data(800'000, '\0');
  for (char& byte : data) byte = static_cast<char>(random());
  StatusOr<Slice> packed = Compress(Compression::kGzip, {InferMessage(data)}, 1);
  const int32_t stream = pair.Call(Framed(packed->view(), /*compressed=*/true), {{"grpc-encoding", "gzip"}});
  const int32_t unknown = pair.Call(Framed(InferMessage(data, "nobody")));
  pair.Read();
  pair.Exchange();
  pair.CheckAnswered(stream, data);
  CHECK_EQ(pair.client.streams[unknown].headers["grpc-status"], "5");
  CHECK(pair.engine->room->inputs.empty());
}

TEST(GrpcRooms, ARoomIsLeftWhenItsCallIs) {
  LargePair pair(100'000);
  pair.engine->room = std::make_shared<CheckedRoom>();
  const int32_t stream = pair.Infer(Pattern(900'000));
  pair.Read(300'000);
  const std::weak_ptr<Buffer> input = pair.engine->room->inputs.at(0);
  pair.engine->room->inputs.clear();
  CHECK(!input.expired() && pair.connection->target().owner == input.lock());
  pair.client.Reset(stream);
  pair.Read();
  CHECK(input.expired());
  CHECK(pair.connection->target().owner == nullptr);
}

}  // namespace
}  // namespace pyinfer
