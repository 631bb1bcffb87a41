// SPDX-License-Identifier: Apache-2.0
// The client's sessions of a load against what servers do: answers in any pieces, errors, ends, and hostile bytes.
#include <algorithm>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "check.h"
#include "load/session.h"
#include "load_frames.h"

namespace pyinfer {
namespace {

using namespace testing;

const std::string kMessage("\0\0\0\0\3abc", 8);

std::string Whole(uint32_t stream) { return Head(stream) + Frame(0, 0, stream, kMessage) + Trailers(stream, "0"); }

struct Grpc {
  explicit Grpc(uint32_t slots = 4, bool keep = false) : session(MakeGrpcSession(answers, kHeaders, slots, keep)) {
    Receive(kSettings);
  }
  std::string Written() {
    std::string out;
    CHECK(session->Send(out, 1 << 20));
    return out;
  }
  bool Receive(const std::string& bytes) { return session->Receive(bytes.data(), bytes.size()); }
  Answers answers;
  std::unique_ptr<ClientSession> session;
};

TEST(GrpcSession, AnswersInAnyPiecesAndOrder) {
  Grpc grpc(2, true);
  grpc.session->Submit(0, kMessage);
  grpc.session->Submit(1, kMessage);
  CHECK(!grpc.session->Ready());
  const std::string written = grpc.Written();
  CHECK_EQ(written.substr(0, 14), "PRI * HTTP/2.0");
  CHECK(written.find("abc") != written.rfind("abc"));
  for (const char byte : Whole(3) + Whole(1)) CHECK(grpc.Receive(std::string(1, byte)));
  CHECK((grpc.answers.ended == Ended{{1, ""}, {0, ""}}));
  CHECK((grpc.answers.begun == std::vector<uint32_t>{1, 0}));
  CHECK_EQ(grpc.answers.bodies[0], kMessage);
  CHECK_EQ(grpc.answers.sizes[0], kMessage.size());
  CHECK(grpc.session->Ready() && !grpc.session->finished());
}

TEST(GrpcSession, ErrorsSayWhatTheServerSaid) {
  const std::pair<std::string, std::string> cases[] = {
      {Head(1) + Trailers(1, "3", "a%20b%2"), "INVALID_ARGUMENT: a b%2"},
      {Head(1) + Trailers(1, "99", "x"), "99: x"},
      {Head(1) + Trailers(1, "-7"), "the answer has no grpc-status"},
      {Frame(1, kEndHeaders | kEndStream, 1, "\x88"), "the answer has no grpc-status"},
      {Frame(1, kEndHeaders | kEndStream, 1, "\x8d"), "HTTP status 404"},
      {Frame(3, 0, 1, Number(7)), "the stream was reset: REFUSED_STREAM"},
      {Head(1) + Frame(3, 0, 1, Number(2)), "the stream was reset: INTERNAL_ERROR"},
  };
  for (const auto& [bytes, text] : cases) {
    Grpc grpc;
    grpc.session->Submit(2, kMessage);
    grpc.Written();
    CHECK(grpc.Receive(bytes));
    CHECK_EQ(grpc.answers.ended.size(), 1u);
    CHECK_EQ(grpc.answers.ended[0].second, text);
    CHECK(grpc.session->Ready());
  }
}

TEST(GrpcSession, GoAwayEndsWhatTheServerWillNotAnswer) {
  Grpc grpc;
  grpc.session->Submit(0, kMessage);
  grpc.session->Submit(1, kMessage);
  grpc.Written();
  CHECK(grpc.Receive(Frame(7, 0, 0, Number(1) + Number(0))));
  CHECK_EQ(grpc.answers.ended.size(), 1u);
  CHECK((grpc.answers.ended[0] == std::pair<uint32_t, std::string>{1, "the stream was reset: REFUSED_STREAM"}));
  CHECK(!grpc.session->Ready() && !grpc.session->finished());
  CHECK(grpc.Receive(Whole(1)));
  CHECK_EQ(grpc.answers.ended[1].second, "");
  CHECK(grpc.session->finished());
}

TEST(GrpcSession, LimitOfTheServerIsKept) {
  Grpc grpc;
  CHECK(grpc.Receive(Frame(4, 0, 0, std::string("\0\3", 2) + Number(1))));
  CHECK(grpc.session->Ready());
  grpc.session->Submit(0, kMessage);
  CHECK(!grpc.session->Ready());
}

TEST(GrpcSession, LargeBodyWaitsForFlowControl) {
  Grpc grpc;
  const std::string body(200'000, 'x');
  grpc.session->Submit(0, body);
  size_t written = grpc.Written().size();
  CHECK(written > 65'535 && written < 67'000);
  CHECK(grpc.Receive(Frame(8, 0, 0, Number(1 << 20)) + Frame(8, 0, 1, Number(1 << 20))));
  written += grpc.Written().size();
  CHECK(written > 200'000 && written < 202'000);
}

std::vector<size_t> SizesOfData(std::string_view written) {
  std::vector<size_t> sizes;
  const auto byte = [&](size_t at) { return static_cast<size_t>(static_cast<uint8_t>(written[at])); };
  while (!written.empty()) {
    const size_t size = byte(0) << 16 | byte(1) << 8 | byte(2);
    if (byte(3) == 0) sizes.push_back(size);
    written.remove_prefix(9 + size);
  }
  return sizes;
}

// As gRPC's own clients do.
TEST(GrpcSession, FramesAreAsLargeAsTheServerTakes) {
  const std::string body(2'500'000, 'x');
  const std::string window = std::string("\0\4", 2) + Number(4 << 20);
  for (const uint32_t size : {16384u, 100'000u, 1u << 20, (1u << 24) - 1}) {
    Grpc grpc;
    grpc.Written();
    CHECK(
        grpc.Receive(Frame(4, 0, 0, window + std::string("\0\5", 2) + Number(size)) + Frame(8, 0, 0, Number(4 << 20))));
    grpc.session->Submit(0, body);
    std::string all;
    for (std::string some = grpc.Written(); !some.empty(); some = grpc.Written()) all += some;
    const std::vector<size_t> sizes = SizesOfData(all);
    const size_t most = std::min<size_t>(size, 1 << 20);
    CHECK_EQ(sizes.size(), (body.size() + most - 1) / most);
    CHECK(std::all_of(sizes.begin(), sizes.end() - 1, [&](size_t one) { return one == most; }));
  }
}

TEST(GrpcSession, LostConnectionAnswersEachRequestOnce) {
  Grpc grpc;
  for (uint32_t slot = 0; slot < 3; ++slot) grpc.session->Submit(slot, kMessage);
  grpc.Written();
  CHECK(grpc.Receive(Whole(3)));
  grpc.session->Fail("lost", true);
  CHECK_EQ(grpc.answers.ended.size(), 3u);
  CHECK_EQ(grpc.answers.ended[2].second, "lost");
  CHECK(!grpc.session->Ready() && grpc.session->finished());
}

constexpr const char* kHttpRequest = "POST /v2 HTTP/1.1\r\n\r\n";

struct Http {
  Http() { Again(); }
  void Again() {
    CHECK(session->Ready());
    session->Submit(0, kHttpRequest);
    std::string out;
    CHECK(session->Send(out, 1 << 20));
    CHECK_EQ(out, kHttpRequest);
  }
  bool Receive(const std::string& bytes, bool one_by_one = true) {
    if (!one_by_one) return session->Receive(bytes.data(), bytes.size());
    for (const char byte : bytes) {
      if (!session->Receive(&byte, 1)) return false;
    }
    return true;
  }
  Answers answers;
  std::unique_ptr<ClientSession> session = MakeHttpSession(answers);
};

const std::string kOk = "HTTP/1.1 200 OK\r\n";

TEST(HttpSession, AnswersInAnyPieces) {
  const std::pair<std::string, size_t> cases[] = {
      {kOk + "Content-Length: 5\r\n\r\nhello", 5},
      {kOk + "content-length:0\r\n\r\n", 0},
      {kOk + "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\nT: 1\r\n\r\n", 13},
      {"HTTP/1.1 100 Continue\r\n\r\n" + kOk + "Content-Length: 1\r\n\r\nx", 1},
  };
  for (const bool one_by_one : {true, false}) {
    Http http;
    for (const auto& [bytes, size] : cases) {
      CHECK(http.Receive(bytes, one_by_one));
      CHECK_EQ(http.answers.ended.back().second, "");
      CHECK_EQ(http.answers.sizes.back(), size);
      http.Again();
    }
    CHECK_EQ(http.answers.ended.size(), std::size(cases));
  }
}

TEST(HttpSession, ErrorKeepsItsText) {
  Http http;
  CHECK(http.Receive("HTTP/1.1 400 Bad\r\nContent-Length: 13\r\n\r\n{\"error\":\"x\"}"));
  CHECK_EQ(http.answers.ended[0].second, "HTTP status 400: {\"error\":\"x\"}");
  http.Again();
  CHECK(http.Receive("HTTP/1.1 500 Bad\r\nContent-Length: 99999\r\n\r\n" + std::string(99'999, 'x'), false));
  CHECK(http.answers.ended[1].second.size() < 5000);
  CHECK_EQ(http.answers.sizes[1], 99'999u);
}

TEST(HttpSession, ConnectionEndsWhereTheAnswerSaysSo) {
  for (const std::string& head : {kOk + "Connection: close\r\nContent-Length: 1\r\n\r\nx",
                                  std::string("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx")}) {
    Http http;
    CHECK(http.Receive(head));
    CHECK_EQ(http.answers.ended.size(), 1u);
    CHECK(!http.session->Ready() && http.session->finished());
  }
  Http until_close;
  CHECK(until_close.Receive(kOk + "\r\nsome text"));
  CHECK(until_close.answers.ended.empty());
  until_close.session->Fail("closed", true);
  CHECK_EQ(until_close.answers.ended[0].second, "");
  CHECK_EQ(until_close.answers.sizes[0], 9u);
  Http cut;
  CHECK(cut.Receive(kOk + "Content-Length: 9\r\n\r\nsome"));
  cut.session->Fail("closed", true);
  CHECK_EQ(cut.answers.ended[0].second, "closed");
}

TEST(HttpSession, AnswerBeforeTheRequestWasSentEndsTheConnection) {
  Answers answers;
  const auto session = MakeHttpSession(answers);
  session->Submit(0, std::string_view("0123456789"));
  std::string out;
  CHECK(session->Send(out, 4));
  CHECK_EQ(out, "0123");
  const std::string answer = "HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n";
  CHECK(session->Receive(answer.data(), answer.size()));
  CHECK_EQ(answers.ended[0].second, "HTTP status 413: ");
  CHECK(session->finished());
}

TEST(HttpSession, WhatIsNoHttpIsRefused) {
  const std::string bad[] = {
      "SSH-2.0-x\r\n\r\n",
      "HTTP/2.0 200 OK\r\n\r\n",
      "HTTP/1.1 abc OK\r\n\r\n",
      "HTTP/1.1 99 OK\r\n\r\n",
      "HTTP/1.1 101 Switching\r\n\r\n",
      kOk + "nocolon\r\n\r\n",
      kOk + "Content-Length: -1\r\n\r\n",
      kOk + "Content-Length: 99999999999999999999\r\n\r\n",
      kOk + "Transfer-Encoding: gzip\r\n\r\n",
      kOk + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
      kOk + "Transfer-Encoding: chunked\r\n\r\n1\nx",
      kOk + "Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n",
      kOk + "X: " + std::string(70'000, 'x'),
      kOk + "Content-Length: 1\r\n\r\nxx",
  };
  for (const bool one_by_one : {true, false}) {
    for (const std::string& bytes : bad) {
      Http http;
      CHECK(!http.Receive(bytes, one_by_one));
      CHECK_EQ(http.answers.ended.size(), 1u);
      CHECK(http.session->finished());
    }
  }
}

// Valid answers with bytes changed, left out or doubled, in random pieces: whatever comes, each request has one answer.
TEST(ClientSession, HostileBytesEndInOneAnswerEach) {
  std::mt19937_64 random(1);
  const std::string grpc_answers = kSettings + Whole(1) + Head(3) + Trailers(3, "3", "no") + Whole(5) + Whole(7);
  const std::string http_answer = kOk + "Transfer-Encoding: chunked\r\nConnection: x\r\n\r\n5\r\nabcde\r\n0\r\n\r\n";
  for (int round = 0; round < 20'000; ++round) {
    const bool is_grpc = round % 2 == 0;
    Answers answers;
    const auto session = is_grpc ? MakeGrpcSession(answers, kHeaders, 4, true) : MakeHttpSession(answers);
    const uint32_t requests = is_grpc ? 4 : 1;
    for (uint32_t slot = 0; slot < requests; ++slot) session->Submit(slot, kMessage);
    std::string bytes = is_grpc ? grpc_answers : http_answer;
    for (uint64_t changes = random() % 4 + 1; changes > 0 && !bytes.empty(); --changes) {
      const size_t at = random() % bytes.size();
      const uint64_t how = random() % 4;
      if (how == 0) bytes[at] = static_cast<char>(random());
      if (how == 1) bytes.erase(at, random() % 20);
      if (how == 2) bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 30));
      if (how == 3) bytes[at] = static_cast<char>(bytes[at] ^ (1 << (random() % 8)));
    }
    std::string out;
    bool open = true;
    for (size_t at = 0; at < bytes.size() && open;) {
      const size_t piece = std::min<size_t>(random() % 64 + 1, bytes.size() - at);
      open = session->Receive(bytes.data() + at, piece) && session->Send(out, 1 << 16) && !session->finished();
      at += piece;
    }
    session->Fail("lost", true);
    std::vector<int> seen(4, 0);
    for (const auto& [slot, error] : answers.ended) ++seen.at(slot);
    for (uint32_t slot = 0; slot < requests; ++slot) CHECK_EQ(seen[slot], 1);
  }
}

}  // namespace
}  // namespace pyinfer
