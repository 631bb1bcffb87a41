// SPDX-License-Identifier: Apache-2.0
#include "protocol/http_place.h"

#include <algorithm>
#include <utility>

#include "protocol/connection.h"

namespace pyinfer {
namespace {

// What is handed out of a streamed answer at a time: it is not counted any more.
constexpr size_t kStreamWrite = size_t{256} << 10;

size_t RoomOf(const Output& output) {
  return Connection::kWriteLimit - std::min(Connection::kWriteLimit, output.size());
}

// Moves what fits from `answer`, of which the first `piece` pieces and `offset` bytes of the next are gone; true when
// all is gone.
bool MoveSome(Output& answer, size_t& piece, size_t& offset, Output& output) {
  if (output.size() >= Connection::kWriteLimit) return false;
  if (output.empty() && piece == 0 && offset == 0 && answer.size() <= Connection::kWriteLimit) {
    output = std::move(answer);
    return true;
  }
  for (; piece < answer.pieces().size(); ++piece, offset = 0) {
    const Slice& from = answer.pieces()[piece];
    const size_t size = std::min(RoomOf(output), from.size() - offset);
    output.Append(from.Sub(offset, size));
    offset += size;
    if (offset < from.size()) return false;
  }
  output.Append(answer.tail());  // no more than a few KiB
  return true;
}

}  // namespace

void HttpPlace::Fill(Output answer, bool close, std::shared_ptr<Trace> trace) {
  complete_ = true;
  close_ = close;
  stream_.reset();
  answer_ = std::move(answer);
  trace_ = std::move(trace);
  if (trace_) trace_->BeginSend();
}

void HttpPlace::End(bool close) {
  complete_ = true;
  close_ = close;
}

void HttpPlace::BeginStream(CancelFlag cancelled) {
  stream_ = std::make_unique<Stream>();
  stream_->cancelled = std::move(cancelled);
}

void HttpPlace::Add(Output part, std::shared_ptr<Trace> trace) {
  stream_->parts.Add(std::move(part));
  if (!trace) return;
  trace->BeginSend();
  stream_->sends.push_back({stream_->taken + stream_->parts.size(), std::move(trace)});
}

void HttpPlace::Cancel() {
  stream_->cancelled->store(true, std::memory_order_relaxed);
  // The head is in the first part.
  stream_->parts.Drop(stream_->taken == 0 ? 1 : 0);
  const uint64_t kept = stream_->taken + stream_->parts.size();
  while (!stream_->sends.empty() && stream_->sends.back().at > kept) stream_->sends.pop_back();
}

bool HttpPlace::MoveStreamTo(Output& output) {
  const size_t size = std::min({RoomOf(output), kStreamWrite, stream_->parts.size()});
  stream_->parts.MoveTo(output, size);
  stream_->taken += size;
  auto& sends = stream_->sends;
  for (; !sends.empty() && sends.front().at <= stream_->taken; sends.pop_front()) sends.front().trace->EndSend();
  return stream_->parts.size() == 0;
}

bool HttpPlace::MoveTo(Output& output) {
  if (stream_) return MoveStreamTo(output);
  if (!complete_) return true;
  if (!MoveSome(answer_, piece_, offset_, output)) return false;
  if (trace_) trace_->EndSend();
  return true;
}

}  // namespace pyinfer
