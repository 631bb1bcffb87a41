// SPDX-License-Identifier: Apache-2.0
// grpc_messages.h - the messages of a call <-> bytes: gRPC's prefix (a flag and four bytes of length), compression.
//
// Source: "gRPC over HTTP2" and "gRPC compression" protocol descriptions.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "memory/buffer.h"
#include "memory/message_buffer.h"
#include "memory/output.h"
#include "wire/grpc_prefix.h"
#include "wire/gzip.h"

namespace pyinfer {

inline constexpr std::string_view kGrpcEncodings = "identity,deflate,gzip";

// What a grpc-encoding header says; kUnknown for what is not in kGrpcEncodings.
Compression ParseGrpcEncoding(std::string_view name);

// How hard responses are compressed. As in gRPC, the level also chooses among the encodings that the client accepts
// (its grpc-accept-encoding): the first of gzip and deflate, or the last.
enum class CompressionLevel { kNone, kLow, kMedium, kHigh };
Compression ChooseGrpcCompression(CompressionLevel level, std::string_view accept_encoding);

// One message after the other, out of the bytes of one call.
class MessageReader {
 public:
  // Takes bytes up to the end of the message, at most; returns how many. ResourceExhausted where the message is, or
  // claims to be, larger than `limit`. Requires: !complete().
  StatusOr<size_t> Feed(const uint8_t* data, size_t size, uint64_t limit);
  bool complete() const { return prefix_size_ == kGrpcPrefixSize && bytes_.left() == 0; }
  // As MessageBuffer::OpenSpace: where the next bytes of the message may be written before they are fed.
  Space OpenSpace(size_t least, size_t most) { return bytes_.OpenSpace(least, most); }
  // How many bytes of the message are still to come, once its prefix has; 0 before.
  size_t left() const { return bytes_.left(); }
  // What has come of the message, parts of which may lie apart; null where it is compressed. Requires: left() != 0.
  MessageBuffer* plain() { return prefix_[0] == 0 ? &bytes_ : nullptr; }
  // Nothing of a message has come yet.
  bool empty() const { return prefix_size_ == 0; }

  // The message, decompressed (to `limit` bytes at most); the next one may follow. InvalidArg or ResourceExhausted
  // where it can not be decompressed, Internal where its flag is wrong. Requires: complete().
  StatusOr<ReceivedMessage> Take(Compression encoding, uint64_t limit);

 private:
  std::array<char, kGrpcPrefixSize> prefix_{};
  size_t prefix_size_ = 0;
  MessageBuffer bytes_;
};

// One message behind its prefix.
Output FrameMessage(std::string_view message);
// The same message compressed, or as it is where that fails or would not make it smaller.
Output CompressMessage(Output framed, Compression compression, CompressionLevel level);

}  // namespace pyinfer
