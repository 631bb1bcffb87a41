// SPDX-License-Identifier: Apache-2.0
#include "protocol/grpc_messages.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace pyinfer {
namespace {

Status TooLarge(uint64_t size, uint64_t limit) {
  return {Code::kResourceExhausted,
          "Received message larger than max (" + std::to_string(size) + " vs. " + std::to_string(limit) + ")"};
}

// zlib's levels.
int EffortOf(CompressionLevel level) {
  switch (level) {
    case CompressionLevel::kHigh:
      return 9;
    case CompressionLevel::kMedium:
      return 6;
    default:
      return 1;
  }
}

bool Accepts(std::string_view list, std::string_view name) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    std::string_view entry = list.substr(0, comma);
    list.remove_prefix(std::min(comma + 1, list.size()));
    while (!entry.empty() && entry.front() == ' ') entry.remove_prefix(1);
    while (!entry.empty() && entry.back() == ' ') entry.remove_suffix(1);
    if (entry == name) return true;
  }
  return false;
}

}  // namespace

Compression ParseGrpcEncoding(std::string_view name) {
  if (name.empty() || name == "identity") return Compression::kIdentity;
  if (name == "gzip") return Compression::kGzip;
  if (name == "deflate") return Compression::kDeflate;
  return Compression::kUnknown;
}

Compression ChooseGrpcCompression(CompressionLevel level, std::string_view accept_encoding) {
  if (level == CompressionLevel::kNone) return Compression::kIdentity;
  const bool gzip = Accepts(accept_encoding, "gzip");
  const bool deflate = Accepts(accept_encoding, "deflate");
  if (gzip && (!deflate || level == CompressionLevel::kLow)) return Compression::kGzip;
  return deflate ? Compression::kDeflate : Compression::kIdentity;
}

StatusOr<size_t> MessageReader::Feed(const uint8_t* data, size_t size, uint64_t limit) {
  size_t taken = 0;
  if (prefix_size_ < kGrpcPrefixSize) {
    taken = std::min(size, kGrpcPrefixSize - prefix_size_);
    std::copy_n(data, taken, prefix_.begin() + static_cast<std::ptrdiff_t>(prefix_size_));
    prefix_size_ += taken;
    if (prefix_size_ < kGrpcPrefixSize) return taken;
    const uint64_t announced = ReadGrpcPrefix({prefix_.data(), prefix_.size()}).size;
    if (announced > limit) return TooLarge(announced, limit);
    bytes_.Begin(static_cast<size_t>(announced));
  }
  const size_t now = std::min(size - taken, bytes_.left());
  bytes_.Append(data + taken, now);
  return taken + now;
}

StatusOr<ReceivedMessage> MessageReader::Take(Compression encoding, uint64_t limit) {
  const uint8_t flag = ReadGrpcPrefix({prefix_.data(), prefix_.size()}).flag;
  prefix_size_ = 0;
  ReceivedMessage message = bytes_.Take();
  if (flag == 0) return {std::move(message)};
  if (flag != 1 || encoding == Compression::kIdentity) {
    return Status::Internal("a message is marked as compressed, but the call names no grpc-encoding for it");
  }
  StatusOr<Slice> unpacked = Decompress(encoding, message.bytes, static_cast<size_t>(limit));
  if (!unpacked.ok()) return unpacked.status();
  return ReceivedMessage(std::move(unpacked).value());
}

Output FrameMessage(std::string_view message) { return Output(WithGrpcPrefix(message)); }

Output CompressMessage(Output framed, Compression compression, CompressionLevel level) {
  std::vector<std::string_view> pieces;
  for (const Slice& piece : framed.pieces()) pieces.push_back(piece.view());
  pieces.emplace_back(framed.tail());
  pieces.front().remove_prefix(kGrpcPrefixSize);  // it lies in one piece: it was written in one
  StatusOr<Slice> packed = Compress(compression, pieces, EffortOf(level));
  if (!packed.ok() || packed->size() + kGrpcPrefixSize >= framed.size()) return framed;
  std::string prefix(kGrpcPrefixSize, '\0');
  WriteGrpcPrefix(prefix.data(), packed->size());
  prefix[0] = 1;
  Output compressed(std::move(prefix));
  compressed.Append(packed.value());
  return compressed;
}

}  // namespace pyinfer
