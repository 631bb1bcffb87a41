// SPDX-License-Identifier: Apache-2.0
// Large messages that are read to where they stay.
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "grpc_stream_fixtures.h"
#include "grpc_targets.h"
#include "wire/gzip.h"

namespace pyinfer {
namespace {

using testing::Answer;
using testing::CheckedRoom;
using testing::Data;
using testing::Frame;
using testing::Framed;
using testing::InferMessage;
using testing::kEndStream;
using testing::kFrameHead;
using testing::kInfer;
using testing::kReadBuffer;
using testing::kStreamInfer;
using testing::LargePair;
using testing::Padded;
using testing::Pattern;

TEST(GrpcTargets, LargeMessagesAreReadToWhereTheyStay) {
  const std::string data = Pattern(3'000'000);
  for (const size_t most : {size_t{70'001}, kReadBuffer, size_t{8} << 20}) {
    LargePair pair(most);
    for (int round = 0; round < 2; ++round) {
      const int32_t stream = pair.Infer(data);
      const size_t placed = pair.Read();
      CHECK(placed + most + 100 >= data.size());  // all but what the first read has brought
      CHECK(most > data.size() ? placed == 0 : placed <= data.size() + 100);
      pair.Exchange();
      pair.CheckAnswered(stream, data);
      CHECK(pair.connection->target().size == 0 && pair.connection->target().owner == nullptr);
    }
  }
}

TEST(GrpcTargets, CallsBesideOneAnother) {
  LargePair pair(100'000);
  const std::string data = Pattern(1'500'000);
  const int32_t a = pair.Infer(data);
  const int32_t b = pair.Infer(data.substr(1));
  const int32_t small = pair.Infer("small");
  CHECK(pair.Read() > data.size());
  pair.Exchange();
  pair.CheckAnswered(a, data);
  pair.CheckAnswered(b, data.substr(1));
  pair.CheckAnswered(small, "small");
}

TEST(GrpcTargets, SmallFramesAreReadAsEver) {
  LargePair pair;
  pair.client.largest_frame = 16384;
  const std::string data = Pattern(1'000'000);
  const int32_t stream = pair.Infer(data);
  CHECK_EQ(pair.Read(), size_t{0});
  pair.Exchange();
  pair.CheckAnswered(stream, data);
}

// A read may end anywhere: in the last bytes of a frame, in the head of the next one, right behind that.
TEST(GrpcTargets, FramesAreCutAnywhere) {
  const std::string message = Framed(InferMessage(Pattern(500'000)));
  const std::string_view whole = message;
  LargePair pair(100'000);
  for (size_t cut = 0; cut <= 2 * kFrameHead + 2; ++cut) {
    const int32_t stream = pair.Open();
    pair.unread += Data(stream, whole.substr(0, 200'000));
    const std::string second = Data(stream, whole.substr(200'000, 200'000));
    const std::string third = Data(stream, whole.substr(400'000), kEndStream);
    pair.unread += second + third;
    // Twice, so that the read behind a cut is cut as well.
    for (const size_t size : {second.size() + third.size(), third.size()}) {
      pair.Read(size + kFrameHead - cut + 3);
      pair.Read(size + kFrameHead - cut);
    }
    pair.Read();
    pair.SayEnded(stream);
    pair.Exchange();
    pair.CheckAnswered(stream, Pattern(500'000));
  }
}

// Where a read ends with a frame, the head of the next one comes alone, and its data are read in place again.
TEST(GrpcTargets, TheNextHeadIsReadAlone) {
  const std::string message = Framed(InferMessage(Pattern(500'000)));
  const std::string_view whole = message;
  LargePair pair(100'000);
  const int32_t stream = pair.Open();
  pair.unread += Data(stream, whole.substr(0, 200'000));
  CHECK(pair.Read() > 0);
  CHECK(pair.connection->target().data == nullptr);
  CHECK_EQ(pair.connection->target().size, kFrameHead);
  const std::string second = Data(stream, whole.substr(200'000), kEndStream);
  pair.unread += second;
  CHECK_EQ(pair.Read(), second.size() - kFrameHead);
  pair.SayEnded(stream);
  pair.Exchange();
  pair.CheckAnswered(stream, Pattern(500'000));
  // Something else may come there.
  const int32_t other = pair.Open();
  pair.unread += Data(other, whole.substr(0, 200'000));
  pair.Read();
  CHECK_EQ(pair.connection->target().size, kFrameHead);
  const int32_t small = pair.Infer("small");
  pair.Read();
  pair.Exchange();
  pair.CheckAnswered(small, "small");
}

TEST(GrpcTargets, PaddingIsNoPartOfAMessage) {
  const std::string message = Framed(InferMessage(Pattern(900'000)));
  const std::string_view whole = message;
  for (const uint8_t padding : {uint8_t{0}, uint8_t{1}, uint8_t{255}}) {
    LargePair pair(70'000);
    const int32_t stream = pair.Open();
    pair.unread += Padded(stream, whole.substr(0, 150'000), padding);
    pair.unread += Data(stream, whole.substr(150'000, 200'000));
    pair.unread += Padded(stream, whole.substr(350'000, 150'000), padding);
    pair.unread += Data(stream, {});
    pair.unread += Data(stream, whole.substr(500'000));
    pair.unread += Padded(stream, {}, padding);
    pair.unread += Data(stream, {}, kEndStream);
    CHECK(pair.Read() > 400'000);
    pair.SayEnded(stream);
    pair.Exchange();
    pair.CheckAnswered(stream, Pattern(900'000));
  }
}

// Messages and frames have nothing to do with each other: a frame ends messages and begins others.
TEST(GrpcTargets, ManyMessagesInAStream) {
  const std::vector<std::string> data = {Pattern(300'000), "", Pattern(80'000), "s", Pattern(700'000),
                                         Pattern(500'000)};
  std::string body, expected;
  for (const std::string& one : data) {
    body += Framed(InferMessage(one));
    expected += Answer(one);
  }
  for (const size_t frame : {size_t{200'000}, size_t{250'000}, size_t{900'000}}) {
    for (const bool has_room : {false, true}) {
      LargePair pair(100'000);
      if (has_room) pair.engine->room = std::make_shared<CheckedRoom>();
      const int32_t stream = pair.Open({}, kStreamInfer);
      for (size_t at = 0; at < body.size(); at += frame) {
        pair.unread += Data(stream, std::string_view(body).substr(at, frame));
      }
      CHECK(pair.Read() > 0);
      pair.Exchange();
      CHECK(pair.client.streams[stream].body == expected);
      if (!has_room) continue;
      CHECK_EQ(pair.engine->room->inputs.size(), size_t{3});
      pair.engine->room->CheckBehind();
    }
  }
}

TEST(GrpcTargets, CompressedMessages) {
  std::mt19937 random(1);
  std::string data(800'000, '\0');
  for (char& byte : data) byte = static_cast<char>(random());
  StatusOr<Slice> packed = Compress(Compression::kGzip, {InferMessage(data)}, 1);
  LargePair pair(100'000);
  const int32_t stream = pair.Call(Framed(packed->view(), /*compressed=*/true), {{"grpc-encoding", "gzip"}});
  CHECK(pair.Read() > 600'000);
  pair.Exchange();
  pair.CheckAnswered(stream, data);
}

// A read that has begun when its call is over writes to memory that is still there, and to no other message.
TEST(GrpcTargets, ATargetOutlivesItsCall) {
  LargePair pair(100'000);
  const int32_t late = pair.Infer(Pattern(2'000'000), {{"grpc-timeout", "1S"}});
  CHECK(pair.Read(500'000) > 0);
  const Space target = pair.connection->target();
  CHECK(target.data != nullptr);
  pair.engine->now += 2'000'000'000;
  pair.client.Receive(pair.Flush());
  pair.CheckStatus(late, "4", "Deadline Exceeded");
  const Slice other = Slice::Copy(Pattern(2'000'000).data(), 2'000'000);  // of the same pool
  CHECK(other.data() + other.size() <= target.data || target.data + target.size <= other.data());
  pair.Read();
  CHECK(other.view() == Pattern(2'000'000));
  const int32_t next = pair.Infer("next");
  pair.Read();
  pair.Exchange();
  pair.CheckAnswered(next, "next");
}

TEST(GrpcTargets, CancelledInTheMiddle) {
  LargePair pair(100'000);
  const std::string message = Framed(InferMessage(Pattern(900'000)));
  for (const size_t sent : {size_t{150'000}, size_t{500'000}}) {
    const int32_t stream = pair.Open();
    pair.unread += Data(stream, std::string_view(message).substr(0, sent));
    pair.Read(80'000);
    CHECK(pair.connection->target().data != nullptr);
    pair.unread += Frame(NGHTTP2_RST_STREAM, 0, stream, std::string("\0\0\0\10", 4), 4);
    pair.Read();
    pair.client.Reset(stream);
    pair.client.Written();
    CHECK_EQ(pair.connection->in_flight(), size_t{0});
    CHECK(pair.connection->target().owner == nullptr);
    CHECK(pair.engine->held.empty());
  }
  const int32_t next = pair.Infer(Pattern(400'000));
  pair.Read();
  pair.Exchange();
  pair.CheckAnswered(next, Pattern(400'000));
}

TEST(GrpcTargets, AConnectionIsLostInTheMiddle) {
  LargePair pair(100'000);
  pair.Infer(Pattern(900'000));
  pair.Read(300'000);
  const Space target = pair.connection->target();
  CHECK(target.data != nullptr);
  pair.connection->Close();
  std::memset(target.data, 1, target.size);
  pair.connection->Receive(target.data, target.size);
  CHECK(pair.connection->target().owner == nullptr);
}

// What is said before much was sent costs nothing, whatever it is.
TEST(GrpcTargets, NoRoomForAnnouncements) {
  LargePair pair(100'000);
  std::string prefix = Framed("");
  prefix[1] = 3;  // 48 MiB
  for (int i = 0; i < 50; ++i) {
    const int32_t stream = pair.Open();
    pair.unread += Frame(NGHTTP2_DATA, 0, stream, prefix + std::string(500, 'x'), prefix.size() + 500);
    pair.unread += Frame(NGHTTP2_DATA, 0, stream, std::string(500, 'x'), 500);
    pair.Read();
    CHECK(pair.connection->target().data == nullptr);
  }
  const int32_t stream = pair.Open();
  pair.unread += Frame(NGHTTP2_DATA, 0, stream, prefix, 1 << 20);
  pair.Read();
  CHECK(pair.connection->target().data == nullptr);
  pair.unread += std::string(2000, 'x');
  pair.Read();
  const Space target = pair.connection->target();
  CHECK(target.data != nullptr);
  CHECK(target.owner->size() <= 64 * 2000);
}

TEST(GrpcTargets, FramesThatAreTooLarge) {
  LargePair pair(100'000);
  const std::string message = Framed(InferMessage(Pattern(3'000'000)));
  const int32_t stream = pair.Open();
  pair.unread += Data(stream, std::string_view(message).substr(0, 500'000));
  CHECK(pair.Read() > 0);
  pair.unread += Frame(NGHTTP2_DATA, 0, stream, std::string(100'000, 'x'), (1 << 20) + 1);
  pair.Read();
  CHECK(pair.client.goaway);
  CHECK_EQ(pair.client.goaway_code, uint32_t{NGHTTP2_FRAME_SIZE_ERROR});
}

TEST(GrpcTargets, MoreThanTheMessage) {
  LargePair pair(100'000);
  const std::string message = Framed(InferMessage(Pattern(400'000)));
  const int32_t stream = pair.Open();
  pair.unread += Data(stream, message + std::string(200'000, 'm'), kEndStream);
  CHECK(pair.Read() > 0);
  pair.SayEnded(stream);
  pair.Exchange();
  pair.CheckStatus(stream, "13", "a unary call carries exactly one message");
}

// Frames of several calls, some of them broken, read in pieces of any size: nothing is written to where it must not.
TEST(GrpcTargets, NothingBreaksIt) {
  std::mt19937 random(7);
  const auto below = [&random](size_t end) { return static_cast<size_t>(random() % end); };
  const std::string message = Framed(InferMessage(Pattern(350'000)));
  for (int round = 0; round < 100; ++round) {
    LargePair pair(1 + below(120'000));
    if (round % 2 == 1) pair.engine->room = std::make_shared<CheckedRoom>();
    std::vector<int32_t> streams;
    std::vector<size_t> sent(3);
    for (size_t i = 0; i < sent.size(); ++i) streams.push_back(pair.Open({}, i == 0 ? kStreamInfer : kInfer));
    for (int frame = 0; frame < 12; ++frame) {
      const size_t i = below(3);
      const std::string_view part = std::string_view(message).substr(sent[i], below(200'000));
      sent[i] += part.size();
      const bool last = sent[i] == message.size();
      std::string bytes = below(4) == 0 ? Padded(streams[i], part.substr(0, 100'000), static_cast<uint8_t>(below(256)))
                                        : Data(streams[i], part, last ? kEndStream : 0);
      if (below(8) == 0) bytes[below(kFrameHead)] ^= static_cast<char>(1 << below(8));
      pair.unread += bytes;
    }
    pair.unread += pair.client.Written();
    while (!pair.unread.empty() && !pair.closed) {
      const Space target = pair.connection->target();
      size_t size = std::min(pair.unread.size(), target.size != 0 ? target.size : pair.most);
      size = 1 + below(size);
      if (target.data == nullptr) {
        pair.Deliver(std::string_view(pair.unread).substr(0, size));
      } else {
        std::memcpy(target.data, pair.unread.data(), size);
        pair.connection->Receive(target.data, size);
      }
      pair.unread.erase(0, size);
      pair.Flush();
    }
    if (pair.engine->room) pair.engine->room->CheckBehind();
  }
}

}  // namespace
}  // namespace pyinfer
