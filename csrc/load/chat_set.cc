// SPDX-License-Identifier: Apache-2.0
#include "load/chat_set.h"

#include <algorithm>

namespace pyinfer {
namespace {

constexpr std::string_view kLength = "\r\nContent-Length: ";
constexpr std::string_view kEndOfHead = "\r\n\r\n";

}  // namespace

ChatSet::ChatSet(const std::vector<Chat>& chats, std::atomic<int64_t>& left, size_t places)
    : chats_(chats), left_(left), places_(places) {}

std::optional<TimeNs> ChatSet::DueAt(size_t place, TimeNs now) {
  Place& here = places_[place];
  if (here.answering) return std::nullopt;
  if (here.chat != nullptr) return here.due;
  const int64_t left = left_.load(std::memory_order_relaxed) <= 0 ? 0 : left_.fetch_sub(1, std::memory_order_relaxed);
  if (left <= 0) return std::nullopt;
  here.chat = &chats_[chats_.size() - static_cast<size_t>(left)];
  here.due = now;
  ++open_;
  return now;
}

TimeNs ChatSet::NextAfter(TimeNs now, TimeNs otherwise) const {
  for (const Place& here : places_) {
    if (here.chat != nullptr && !here.answering && here.due > now) otherwise = std::min(otherwise, here.due);
  }
  return otherwise;
}

const ChatTurn& ChatSet::Next(size_t place, const std::vector<std::string>& bodies, std::string& out) {
  Place& here = places_[place];
  const ChatTurn& turn = (*here.chat)[here.turn++];
  const std::string_view body = bodies[turn.body];
  WriteChatTurn(out, body, turn, here.history);
  here.said = body.substr(turn.messages_at, turn.messages_size);
  here.answering = true;
  return turn;
}

void ChatSet::Answered(size_t place, std::string_view message, TimeNs now) {
  Place& here = places_[place];
  here.answering = false;
  if (message.empty() || here.turn == here.chat->size()) {
    here = Place();
    --open_;
    return;
  }
  for (const std::string_view said : {here.said, message}) {
    if (!said.empty()) here.history.append(said).push_back(',');
  }
  here.due = now + (*here.chat)[here.turn - 1].delay;
}

void WriteChatTurn(std::string& out, std::string_view body, const ChatTurn& turn, std::string_view history) {
  const size_t head = body.find(kEndOfHead) + kEndOfHead.size();
  const size_t length = body.find(kLength) + kLength.size();
  out = body.substr(0, length);
  out += std::to_string(body.size() - head + history.size());
  const size_t rest = body.find('\r', length);
  out += body.substr(rest, turn.messages_at - rest);
  out += history;
  out += body.substr(turn.messages_at);
}

bool IsChatRequest(std::string_view body, const ChatTurn& turn) {
  const size_t head = body.find(kEndOfHead), length = body.find(kLength);
  return head != std::string_view::npos && length < head && turn.messages_at >= head + kEndOfHead.size() &&
         turn.messages_at <= body.size() && turn.messages_size <= body.size() - turn.messages_at &&
         turn.messages_size != 0;
}

}  // namespace pyinfer
