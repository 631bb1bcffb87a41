// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include "check.h"
#include "load/chat_set.h"
#include "load/stream_event.h"

namespace pyinfer {
namespace {

constexpr TimeNs kMs = 1'000'000;

std::string Request(const std::string& messages) {
  const std::string content = R"({"model":"m","messages":[)" + messages + "]}";
  return "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(content.size()) +
         "\r\nX: y\r\n\r\n" + content;
}

struct House {
  ChatTurn Add(const std::string& messages, TimeNs delay) {
    bodies.push_back(Request(messages));
    return {bodies.size() - 1, bodies.back().size() - messages.size() - 2, messages.size(), delay};
  }

  std::vector<std::string> bodies;
  std::vector<Chat> chats;
  std::atomic<int64_t> left{0};
};

TEST(ChatSet, TurnsSayWhatWasSaidBefore) {
  House house;
  house.chats = {{house.Add(R"({"u":1})", 30 * kMs), house.Add(R"({"u":2},{"u":3})", 10 * kMs), house.Add("4", 0)}};
  house.left = 1;
  ChatSet set(house.chats, house.left, 1);
  CHECK(!set.done());
  std::string out;
  const auto turn = [&](TimeNs now) {
    const auto due = set.DueAt(0, now);
    CHECK(due && *due == now);
    set.Next(0, house.bodies, out);
    CHECK(!set.DueAt(0, now + 100 * kMs));  // it is being answered
    return out;
  };
  CHECK_EQ(turn(5), Request(R"({"u":1})"));
  CHECK_EQ(set.NextAfter(5, 777), 777);
  set.Answered(0, R"({"a":1})", kMs);
  CHECK_EQ(set.NextAfter(5, 100 * kMs), 31 * kMs);
  CHECK_EQ(*set.DueAt(0, 2 * kMs), 31 * kMs);
  CHECK_EQ(turn(31 * kMs), Request(R"({"u":1},{"a":1},{"u":2},{"u":3})"));
  set.Answered(0, R"({"a":2})", 40 * kMs);
  CHECK_EQ(turn(50 * kMs), Request(R"({"u":1},{"a":1},{"u":2},{"u":3},{"a":2},4)"));
  CHECK(!set.done());
  set.Answered(0, R"({"a":3})", 60 * kMs);
  CHECK(set.done() && !set.DueAt(0, 70 * kMs));
}

TEST(ChatSet, EachIsHeldOnceByWhoeverIsFree) {
  House house;
  for (int i = 0; i < 5; ++i) house.chats.push_back({house.Add(std::to_string(i), 0)});
  house.left = 5;
  ChatSet one(house.chats, house.left, 2), other(house.chats, house.left, 1);
  std::string out, seen;
  const auto hold = [&](ChatSet& set, size_t place) {
    if (!set.DueAt(place, 0)) return false;
    seen += std::to_string(set.Next(place, house.bodies, out).body);
    return true;
  };
  CHECK(hold(one, 1) && hold(other, 0) && hold(one, 0));
  other.Answered(0, "a", 0);
  CHECK(hold(other, 0));
  one.Answered(0, "a", 0);
  CHECK(hold(one, 0) && !one.done());
  other.Answered(0, "a", 0);
  CHECK(!hold(other, 0) && other.done() && !one.done());
  one.Answered(0, "a", 0);
  one.Answered(1, "a", 0);
  CHECK(one.done());
  CHECK_EQ(seen, "01234");
}

TEST(ChatSet, AChatWithoutAnAnswerDoesNotGoOn) {
  House house;
  house.chats = {{house.Add("1", 0), house.Add("2", 0)}, {house.Add("3", 0)}};
  house.left = 2;
  ChatSet set(house.chats, house.left, 1);
  std::string out;
  set.DueAt(0, 0);
  set.Next(0, house.bodies, out);
  set.Answered(0, {}, 0);
  CHECK(set.DueAt(0, 0).has_value());
  set.Next(0, house.bodies, out);
  CHECK_EQ(out, Request("3"));
}

TEST(ChatSet, RequestsWithoutAPlaceAreTold) {
  House house;
  const ChatTurn turn = house.Add("1", 0);
  CHECK(IsChatRequest(house.bodies[0], turn));
  CHECK(!IsChatRequest(house.bodies[0], {0, turn.messages_at, 0, 0}));
  CHECK(!IsChatRequest(house.bodies[0], {0, 3, 1, 0}));
  CHECK(!IsChatRequest(house.bodies[0], {0, turn.messages_at, 999, 0}));
  CHECK(!IsChatRequest("POST / HTTP/1.1\r\n\r\n[1]", {0, 20, 1, 0}));
}

TEST(ChatSet, MessagesAreFoundInAnswers) {
  CHECK_EQ(MessageOfAnswer(R"({"choices": [{"message": {"role": "assistant", "content": "a\n"}}, {"message": {}}]})"),
           R"({"role":"assistant","content":"a\n"})");
  for (const char* const none :
       {"", "[]", "{}", R"({"choices":[]})", R"({"choices":[{"text":"a"}]})", R"({"choices":[{"message":"a"}]})"}) {
    CHECK_EQ(MessageOfAnswer(none), "");
  }
  std::string text;
  for (const char* const chunk :
       {R"({"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]})",
        R"({"choices":[{"index":1,"delta":{"content":"other"}},{"index":0,"delta":{"content":"say \""}}]})",
        R"({"choices":[{"delta":{"content":"a\""}}]})", R"({"choices":[],"usage":{"completion_tokens":2}})",
        "[DONE]"}) {
    CHECK_EQ(ReadStreamEvent(EventGrammar::kOpenAi, chunk, &text).error, "");
  }
  CHECK_EQ(MessageOfText(text), R"({"role":"assistant","content":"say \"a\""})");
  CHECK_EQ(MessageOfText(""), "");
}

}  // namespace
}  // namespace pyinfer
