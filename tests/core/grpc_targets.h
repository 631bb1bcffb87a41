// SPDX-License-Identifier: Apache-2.0
// grpc_targets.h - a client that sends large frames, and a transport that reads to where it is told.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "grpc_fixtures.h"

namespace pyinfer::testing {

inline constexpr size_t kFrameHead = 9;
inline constexpr size_t kReadBuffer = size_t{256} << 10;
inline constexpr uint8_t kEndStream = 1, kPadded = 8;

inline std::string Frame(uint8_t type, uint8_t flags, int32_t stream, std::string_view payload, size_t claims) {
  std::string frame;
  for (int shift = 16; shift >= 0; shift -= 8) frame += static_cast<char>(claims >> shift);
  frame += static_cast<char>(type);
  frame += static_cast<char>(flags);
  for (int shift = 24; shift >= 0; shift -= 8) frame += static_cast<char>(stream >> shift);
  return frame.append(payload);
}

inline std::string Data(int32_t stream, std::string_view payload, uint8_t flags = 0) {
  return Frame(NGHTTP2_DATA, flags, stream, payload, payload.size());
}

inline std::string Padded(int32_t stream, std::string_view payload, uint8_t padding) {
  std::string padded(1, static_cast<char>(padding));
  padded.append(payload).append(padding, '\0');
  return Data(stream, padded, kPadded);
}

inline std::string Pattern(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 2654435761u >> 13);
  return bytes;
}

// A client that sends large frames, and a transport that reads to where it is told.
struct LargePair : GrpcPair {
  explicit LargePair(size_t most_read = kReadBuffer) : GrpcPair(MakeOptions(), 8 << 20), most(most_read) {
    client.AllowOnConnection(1 << 30);
    Exchange();
    client.largest_frame = 1 << 20;
  }

  // A call whose body the test writes, frame by frame.
  int32_t Open(const HeaderList& more = {}, const std::string& path = kInfer) {
    const int32_t stream = client.Request(CallHeaders(path, more), "", /*keep_open=*/true);
    unread += client.Written();
    return stream;
  }
  // The test has written its end.
  void SayEnded(int32_t stream) {
    client.FinishSending(stream);
    client.Written();
  }

  // Reads what the client has written, but for `left` bytes; how many bytes were read to where they stay.
  size_t Read(size_t left = 0) {
    size_t placed = 0;
    unread += client.Written();
    while (unread.size() > left) {
      const Space target = connection->target();
      size_t size = unread.size() - left;
      size = std::min(size, target.size != 0 ? target.size : most);
      if (target.data == nullptr) {
        Deliver(std::string_view(unread).substr(0, size));
      } else {
        std::memcpy(target.data, unread.data(), size);
        connection->Receive(target.data, size);
        placed += size;
      }
      unread.erase(0, size);
      client.Receive(Flush());
      unread += client.Written();
    }
    return placed;
  }

  const size_t most;
  std::string unread;
};

}  // namespace pyinfer::testing
