// SPDX-License-Identifier: Apache-2.0
// chat_set.h - conversations with a model over OpenAI's API: which request is the next of each, when, and what it says.
// Pure: time is a number.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"

namespace pyinfer {

struct ChatTurn {
  // Of the load: a whole request of HTTP/1.1 with a Content-Length, as if nothing had been said before it.
  size_t body = 0;
  // Where its messages are in it: what is between the brackets of a JSON array.
  size_t messages_at = 0;
  size_t messages_size = 0;
  // From its answer to the next turn of the chat.
  TimeNs delay = 0;
};

using Chat = std::vector<ChatTurn>;

// The chats that go on at the `places` of one worker, one at each. Workers share the chats by `left`, how many of them
// have not begun: each is held once.
class ChatSet {
 public:
  // `chats` and `left` outlive this.
  ChatSet(const std::vector<Chat>& chats, std::atomic<int64_t>& left, size_t places);

  // When the next turn at `place` is to be sent, `now` for that of a new chat; nothing where one is being answered and
  // where no chat is left.
  std::optional<TimeNs> DueAt(size_t place, TimeNs now);
  // The earliest time after `now` at which a turn of a chat that goes on is to be sent; `otherwise` where none is.
  TimeNs NextAfter(TimeNs now, TimeNs otherwise) const;
  // Requires: DueAt(place). Replaces `out` with the request: `bodies` has it, what was said before is put into it.
  const ChatTurn& Next(size_t place, const std::vector<std::string>& bodies, std::string& out);
  // `message` is what the model has said, a JSON object; empty where it has failed: then the chat does not go on.
  void Answered(size_t place, std::string_view message, TimeNs now);
  // All chats are over, here; those of other workers may go on.
  bool done() const { return open_ == 0 && left_.load(std::memory_order_relaxed) <= 0; }

 private:
  struct Place {
    const Chat* chat = nullptr;
    size_t turn = 0;  // the next one
    bool answering = false;
    TimeNs due = 0;
    std::string_view said;  // in the request that is being answered
    std::string history;    // messages, each with a comma behind it
  };

  const std::vector<Chat>& chats_;
  std::atomic<int64_t>& left_;
  std::vector<Place> places_;
  size_t open_ = 0;
};

// Replaces `out` with `body`, in which `history` stands before the messages of `turn`, and whose Content-Length says
// so. Requires: `body` has one.
void WriteChatTurn(std::string& out, std::string_view body, const ChatTurn& turn, std::string_view history);
// Whether `body` is a request that WriteChatTurn can write.
bool IsChatRequest(std::string_view body, const ChatTurn& turn);

}  // namespace pyinfer
