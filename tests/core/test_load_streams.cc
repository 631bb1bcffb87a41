// SPDX-License-Identifier: Apache-2.0
// Answers that are streams of responses: ModelStreamInfer, events over HTTP, and what damaged ones come to.
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "load/session.h"
#include "load/stream_event.h"
#include "load_frames.h"
#include "wire/event_stream.h"

namespace pyinfer {
namespace {

using namespace testing;

const std::string kRequest("\0\0\0\0\3\x0a\x01m", 8);

std::string Framed(const std::string& message) {
  return std::string(1, '\0') + Number(static_cast<uint32_t>(message.size())) + message;
}

std::string Field(char tag, const std::string& value) {
  return std::string(1, tag) + static_cast<char>(value.size()) + value;
}

enum Final { kNotTold, kNotYet, kFinal };

// A ModelStreamInferResponse.
std::string Response(const std::string& id, Final final, bool has_output = true, const std::string& error = "") {
  std::string inference = Field('\x1a', id);
  if (final != kNotTold) {
    const std::string value = final == kFinal ? std::string("\x08\x01", 2) : std::string("\x08\x00", 2);
    inference += Field('\x22', Field('\x0a', "triton_final_response") + Field('\x12', value));
  }
  if (has_output) inference += Field('\x2a', Field('\x0a', "OUT"));
  return Framed((error.empty() ? "" : Field('\x0a', error)) + Field('\x12', inference));
}

struct Stream {
  explicit Stream(uint32_t slots = 4) : session(MakeGrpcStreamSession(answers, kHeaders, slots)) { Receive(kSettings); }
  // Submits in this slot; the id that the request has got.
  std::string Ask(uint32_t slot) {
    session->Submit(slot, kRequest);
    const std::string written = Written();
    const size_t at = written.rfind("\x1a\x10");
    CHECK(at != std::string::npos);
    CHECK_EQ(written.substr(at - 8, 8), std::string("\0\0\0\0\x15\x0a\x01m", 8));
    return written.substr(at + 2, 16);
  }
  std::string Written() {
    std::string out;
    CHECK(session->Send(out, 1 << 20));
    return out;
  }
  bool Receive(const std::string& bytes) { return session->Receive(bytes.data(), bytes.size()); }
  bool Data(const std::string& messages) { return Receive(Frame(0, 0, 1, messages)); }
  Answers answers;
  std::unique_ptr<ClientSession> session;
};

TEST(GrpcStreamSession, RequestsShareOneCallAndAreToldApart) {
  Stream stream(2);
  const std::string first = stream.Ask(0), second = stream.Ask(1);
  CHECK(first != second);
  CHECK(!stream.session->Ready());
  CHECK(stream.Receive(Head(1)));
  const std::string bytes = Response(second, kFinal) + Response(first, kNotYet) + Response(first, kNotTold);
  for (const char byte : bytes) CHECK(stream.Data(std::string(1, byte)));
  CHECK((stream.answers.ended == Ended{{1, ""}, {0, ""}}));
  CHECK((stream.answers.responses == std::vector<uint32_t>{1, 0, 0}));
  CHECK((stream.answers.begun == std::vector<uint32_t>{1, 0}));
  CHECK(stream.session->Ready() && !stream.session->finished());
  // the same call goes on
  CHECK(stream.Data(Response(stream.Ask(1), kFinal)));
  CHECK_EQ(stream.answers.ended.size(), 3u);
}

TEST(GrpcStreamSession, ResponseThatOnlyEndsIsNotCounted) {
  Stream stream;
  const std::string many = stream.Ask(0), none = stream.Ask(2);
  CHECK(stream.Receive(Head(1)));
  for (int i = 0; i < 3; ++i) CHECK(stream.Data(Response(many, kNotYet)));
  CHECK(stream.answers.ended.empty());
  CHECK(stream.Data(Response(none, kFinal, false) + Response(many, kFinal, false)));
  CHECK((stream.answers.responses == std::vector<uint32_t>{0, 0, 0}));
  CHECK((stream.answers.ended == Ended{{2, ""}, {0, ""}}));
}

TEST(GrpcStreamSession, ErrorEndsItsRequestAlone) {
  Stream stream;
  const std::string bad = stream.Ask(0), good = stream.Ask(1);
  CHECK(stream.Receive(Head(1)));
  CHECK(stream.Data(Response(bad, kNotTold, false, "no such model")));
  CHECK(stream.Data(Response(bad, kFinal)));  // of a request that is over: left out
  CHECK(stream.Data(Response(good, kFinal)));
  CHECK((stream.answers.ended == Ended{{0, "no such model"}, {1, ""}}));
  CHECK_EQ(stream.answers.responses.size(), 1u);
}

TEST(GrpcStreamSession, ErrorOfNobodyIsThatOfAll) {
  Stream stream;
  stream.Ask(0);
  stream.Ask(1);
  CHECK(stream.Receive(Head(1)));
  CHECK(stream.Data(Response("strange", kNotTold, false, "no")));
  CHECK((stream.answers.ended == Ended{{0, "no"}, {1, "no"}}));
  CHECK(stream.session->Ready());
}

TEST(GrpcStreamSession, CallThatEndsIsOpenedAgain) {
  const std::pair<std::string, std::string> ends[] = {
      {Head(1) + Trailers(1, "14", "going%20away"), "UNAVAILABLE: going away"},
      {Head(1) + Trailers(1, "0"), "the server has ended the stream"},
      {Frame(3, 0, 1, Number(8)), "the stream was reset: CANCEL"},
  };
  for (const auto& [bytes, text] : ends) {
    Stream stream;
    stream.Ask(3);
    CHECK(stream.Receive(bytes));
    CHECK((stream.answers.ended == Ended{{3, text}}));
    CHECK(stream.session->Ready());
    const std::string id = stream.Ask(0);
    CHECK(stream.Receive(Head(3) + Frame(0, 0, 3, Response(id, kFinal))));
    CHECK_EQ(stream.answers.ended.back().second, "");
  }
}

TEST(GrpcStreamSession, GoAwayTakesNothingNew) {
  Stream stream;
  const std::string id = stream.Ask(0);
  CHECK(stream.Receive(Frame(7, 0, 0, Number(1) + Number(0))));
  CHECK(!stream.session->Ready() && !stream.session->finished());
  CHECK(stream.Receive(Head(1) + Frame(0, 0, 1, Response(id, kFinal))));
  CHECK_EQ(stream.answers.ended[0].second, "");
  CHECK(stream.session->finished());
}

TEST(GrpcStreamSession, FlowControlHoldsBackAndNothingIsLost) {
  Stream stream;
  const std::string message(120'000, '\0');  // of fields with no meaning; nobody reads it here
  const std::string body = Framed(message);
  size_t written = 0;
  for (uint32_t slot = 0; slot < 4; ++slot) {
    stream.session->Submit(slot, body);
    written += stream.Written().size();
  }
  CHECK(written > 65'535 && written < 67'000);
  for (int i = 0; i < 10; ++i) {
    CHECK(stream.Receive(Frame(8, 0, 0, Number(50'000)) + Frame(8, 0, 1, Number(50'000))));
    written += stream.Written().size();
  }
  CHECK(written > 480'092 && written < 482'500);
}

TEST(GrpcStreamSession, WhatIsNoResponseEndsTheConnection) {
  const std::string bad[] = {
      Framed("\x12"),                // cut short
      std::string("\1\0\0\0\0", 5),  // compressed
      std::string("\0\xff\xff\xff\xff", 5),
  };
  for (const std::string& bytes : bad) {
    Stream stream;
    stream.Ask(0);
    CHECK(stream.Receive(Head(1)));
    CHECK(!stream.Data(bytes));
    stream.session->Fail("lost", false);
    CHECK((stream.answers.ended == Ended{{0, "lost"}}));
    CHECK(stream.session->finished());
  }
}

struct Events final : EventHandler {
  void OnEvent(std::string_view data) override { seen.emplace_back(data); }
  std::vector<std::string> seen;
};

TEST(EventStream, EventsInAnyPieces) {
  const std::string bytes =
      ": comment\nevent: x\ndata: one\n\ndata:two\r\ndata: more\r\n\r\nid: 7\n\ndata\rdata:  x\r\rdata: open\n";
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    Events events;
    EventStreamReader reader;
    for (size_t at = 0; at < bytes.size(); at += piece) CHECK(reader.Read(bytes.substr(at, piece), events));
    CHECK((events.seen == std::vector<std::string>{"one", "two\nmore", "\n x"}));
    CHECK(reader.Read("\n", events));
    CHECK_EQ(events.seen.back(), "open");
  }
}

TEST(EventStream, WhatIsTooLargeIsRefused) {
  Events events;
  EventStreamReader reader;
  const std::string line = "data: " + std::string(EventStreamReader::kLargestEvent / 2, 'x') + "\n";
  CHECK(reader.Read(line, events) && !(reader.Read(line, events) && reader.Read(line, events)));
  reader.Clear();
  CHECK(!reader.Read(std::string(EventStreamReader::kLargestEvent + 1, 'x'), events));
}

TEST(StreamEvent, WhatGenerateSays) {
  const auto read = [](const char* data) { return ReadStreamEvent(EventGrammar::kGenerate, data); };
  CHECK(read("{\"model_name\":\"m\",\"OUT\":1}").is_response);
  CHECK(read("{\"model_name\":\"m\",\"error\":\"a tensor\"}").is_response);
  CHECK(read("{\"model_name\":\"m\",\"OUT\":NaN}").is_response);
  CHECK_EQ(read("{\"error\":\"no\"}").error, "no");
  CHECK(!read("{\"error\":\"no\"}").is_response);
}

TEST(StreamEvent, WhatOpenAiSays) {
  const auto read = [](const std::string& data) { return ReadStreamEvent(EventGrammar::kOpenAi, data); };
  for (const char* choice : {R"("text":"x")", R"("delta":{"content":"x"})", R"("delta":{"reasoning_content":"x"})",
                             R"("delta":{"tool_calls":[{}]})"}) {
    CHECK(read(R"({"choices":[{)" + std::string(choice) + "}]}").is_response);
  }
  for (const char* choices :
       {"", R"({"text":""})", R"({"delta":{"role":"assistant","content":""}})", R"({"delta":{}})"}) {
    const StreamEvent event = read(R"({"choices":[)" + std::string(choices) + R"(],"usage":null})");
    CHECK(!event.is_response && event.error.empty() && event.tokens == 0);
  }
  CHECK_EQ(read(R"({"choices":[],"usage":{"completion_tokens":7}})").tokens, 7u);
  CHECK(!read("[DONE]").is_response && read("[DONE]").error.empty());
  CHECK_EQ(read(R"({"error":{"message":"full","code":429}})").error, "full");
  CHECK_EQ(read(R"({"error":"full"})").error, "full");
  CHECK_EQ(read(R"({"error":{}})").error, "an error without a text");
  CHECK(!read("half of {").error.empty());
}

const std::string kEvents = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n";

struct Http {
  explicit Http(EventGrammar grammar) : session(MakeHttpSession(answers, grammar)) { Ask(); }
  void Ask() {
    CHECK(session->Ready());
    session->Submit(0, "x");
    std::string out;
    CHECK(session->Send(out, 100));
  }
  bool Receive(const std::string& bytes, bool by_bytes) {
    if (!by_bytes) return session->Receive(bytes.data(), bytes.size());
    for (const char byte : bytes) {
      if (!session->Receive(&byte, 1)) return false;
    }
    return true;
  }
  Answers answers;
  std::unique_ptr<ClientSession> session;
};

std::string Chunked(const std::vector<std::string>& parts) {
  std::string bytes = kEvents + "Transfer-Encoding: chunked\r\n\r\n";
  for (const std::string& part : parts) {
    char size[16];
    snprintf(size, sizeof size, "%zx", part.size());
    bytes += size + ("\r\n" + part) + "\r\n";
  }
  return bytes + "0\r\n\r\n";
}

TEST(HttpSession, EventsAreResponses) {
  for (const bool by_bytes : {true, false}) {
    Http http(EventGrammar::kGenerate);
    CHECK(http.Receive(Chunked({"data: {\"a\":1}\n\ndata", ": {\"a\":2}\n\n", "data: {\"a\":3}"}), by_bytes));
    CHECK((http.answers.ended == Ended{{0, ""}}));
    CHECK_EQ(http.answers.responses.size(), 3u);
    // and the next request is none of its business
    http.Ask();
    CHECK(http.Receive("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\ndata: {}\n\nxx", by_bytes));
    CHECK_EQ(http.answers.responses.size(), 3u);
  }
}

TEST(HttpSession, ErrorInAnEventIsThatOfTheRequest) {
  Http http(EventGrammar::kGenerate);
  CHECK(http.Receive(Chunked({"data: {\"a\":1}\n\n", "data: {\"error\":\"no more\"}\n\n"}), true));
  CHECK((http.answers.ended == Ended{{0, "no more"}}));
  CHECK_EQ(http.answers.responses.size(), 1u);
}

TEST(HttpSession, OpenAiTellsItsTokens) {
  Http http(EventGrammar::kOpenAi);
  CHECK(http.Receive(Chunked({"data: {\"choices\":[{\"delta\":{\"role\":\"a\",\"content\":\"\"}}]}\n\n",
                              "data: {\"choices\":[{\"delta\":{\"content\":\"to ken\"}}]}\n\n",
                              "data: {\"choices\":[],\"usage\":{\"completion_tokens\":2}}\n\ndata: [DONE]\n\n"}),
                     true));
  CHECK((http.answers.ended == Ended{{0, ""}}));
  CHECK_EQ(http.answers.responses.size(), 1u);
  CHECK_EQ(http.answers.tokens[0], 2u);
  Http whole(EventGrammar::kOpenAi);
  const std::string body = R"({"choices":[{"text":"a b c"}],"usage":{"completion_tokens":3}})";
  CHECK(whole.Receive("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " +
                          std::to_string(body.size()) + "\r\n\r\n" + body,
                      true));
  CHECK_EQ(whole.answers.tokens[0], 3u);
  CHECK(whole.answers.responses.empty());
}

// Valid streams with bytes changed, left out or doubled, in random pieces: whatever comes, each request has one answer.
TEST(GrpcStreamSession, HostileBytesEndInOneAnswerEach) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 10'000; ++round) {
    Stream stream;
    std::vector<std::string> ids;
    for (uint32_t slot = 0; slot < 4; ++slot) ids.push_back(stream.Ask(slot));
    std::string data;
    for (const std::string& id : ids) data += Response(id, kNotYet) + Response(id, kFinal);
    for (uint64_t changes = random() % 4 + 1; changes > 0 && !data.empty(); --changes) {
      const size_t at = random() % data.size();
      const uint64_t how = random() % 3;
      if (how == 0) data[at] = static_cast<char>(random());
      if (how == 1) data.erase(at, random() % 20);
      if (how == 2) data.insert(at, data.substr(random() % data.size(), random() % 30));
    }
    std::string bytes = Head(1);
    for (size_t at = 0; at < data.size(); at += 100) bytes += Frame(0, 0, 1, data.substr(at, 100));
    bool open = true;
    for (size_t at = 0; at < bytes.size() && open; at += 37) open = stream.Receive(bytes.substr(at, 37));
    stream.session->Fail("lost", true);
    std::vector<int> seen(4, 0);
    for (const auto& [slot, error] : stream.answers.ended) ++seen.at(slot);
    for (const int times : seen) CHECK_EQ(times, 1);
  }
}

}  // namespace
}  // namespace pyinfer
