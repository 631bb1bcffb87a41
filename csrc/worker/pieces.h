// SPDX-License-Identifier: Apache-2.0
// pieces.h - what the messages between a server and a worker process are made of, as bytes and back.
//
// Both ends are the same build on the same machine: numbers are in its byte order. A message is its description (all
// that is not tensor data), then the data, each tensor's aligned to kLaneAlignment. Readers trust nothing: whatever a
// length, an offset or a number says is checked before it is used, and the description of a message that the other side
// could change meanwhile is read from a copy.
//
// Large data are not copied where the reader has them already, in a message that it has sent, or can read them where
// they are (placed_inputs.h): they are told of by their place there.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "infer/request.h"
#include "infer/response.h"
#include "memory/buffer.h"

namespace pyinfer {

// What is smaller is copied: a message as a whole, so that its block is given back at once, and data that could be
// told of.
inline constexpr size_t kLargeData = size_t{256} << 10;

// Where data are that are not in the message which tells of them.
struct Place {
  bool placed = false;  // among the placed inputs; in the message that the reader has sent, where not
  uint64_t offset = 0;  // there
};

enum class MessageKind : uint8_t { kModel, kBatch, kStop, kAnswers, kCall, kCancel, kResponse };

// Where the bytes of a message go. Requires of all that is added: it lives until Write.
class MessageWriter {
 public:
  explicit MessageWriter(MessageKind kind) { Number(static_cast<uint8_t>(kind)); }

  template <typename T>
  void Number(T value) {
    description_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void Text(std::string_view text);
  // Room for `size` bytes of zeros among the data.
  void Zeros(uint64_t size);
  void Data(std::string_view bytes);
  // Large data that lie in `bytes`, which are at `place` for the reader, are not copied from now on.
  void Borrow(std::string_view bytes, Place place) { borrowed_.push_back({bytes, place}); }

  uint64_t size() const;
  // Where the data begin in a message.
  uint64_t data_offset() const;
  // Writes size() bytes.
  void Write(uint8_t* to) const;

 private:
  struct Part {
    uint64_t offset;
    const char* bytes;  // null: zeros
    uint64_t size;
  };

  std::string description_;
  std::vector<Part> parts_;
  uint64_t data_size_ = 0;
  std::vector<std::pair<std::string_view, Place>> borrowed_;
};

// The `size` bytes at a place that a message tells of; nothing where there are none for whoever wrote it.
using Lender = std::function<std::optional<Slice>(Place place, uint64_t size)>;

// What a message says, piece by piece. Once a piece is not there, everything that follows is zero or empty.
class MessageReader {
 public:
  // Fails where `message` is not of that kind. `foreign`: the other side could write to it meanwhile, so that what is
  // read more than once is read from a copy.
  // `lender`: asked for data that are not in the message; where it is null, none may be elsewhere.
  MessageReader(const Slice& message, MessageKind kind, bool foreign, Lender lender = nullptr);

  bool failed() const { return failed_; }
  // Whether all was read and made sense.
  bool at_end() const { return !failed_ && rest_.empty(); }
  void Fail();

  template <typename T>
  T Number() {
    T value{};
    const std::string_view bytes = Bytes(sizeof(value));
    if (!failed_) std::memcpy(&value, bytes.data(), sizeof(value));
    return value;
  }
  std::string Text() { return std::string(Bytes(Number<uint64_t>())); }
  // How many pieces follow, each of `least` bytes or more: what is made for them is bounded by what there is.
  size_t Count(size_t least);
  bool Flag() { return Number<uint8_t>() != 0; }
  std::vector<uint64_t> Numbers();
  Slice Data();
  // All of the data.
  const Slice& data() const { return data_; }

 private:
  std::string_view Bytes(uint64_t size);

  Slice description_;
  Slice data_;
  std::string_view rest_;
  Lender lender_;
  bool failed_ = false;
};

Status SenselessMessage();
// InvalidArg where it makes no sense.
StatusOr<MessageKind> KindOf(const Slice& message);

void WriteNumbers(MessageWriter& writer, const std::vector<uint64_t>& numbers);
// Without its model: names, parameters and tensors as they are.
void WriteRequest(MessageWriter& writer, const Request& request);
// `number`: what a trace of it is known by here.
void ReadRequest(MessageReader& reader, Request& request, uint64_t number);
void WriteResponse(MessageWriter& writer, const Response& response);
Response ReadResponse(MessageReader& reader);

}  // namespace pyinfer
