// SPDX-License-Identifier: Apache-2.0
// The TLS of a load's connections against a server's side of OpenSSL: no socket, and bytes in any pieces.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "load/tls_client.h"
#include "tls_server.h"

namespace pyinfer {
namespace {

using namespace testing;

// What is within: says what it is told to, keeps what it hears.
struct Inside final : ClientSession {
  struct Seen {
    std::string heard;
    std::string to_say;
    std::vector<uint32_t> submitted;
    std::vector<std::pair<std::string, bool>> failures;
    bool refuses = false;
  };
  explicit Inside(Seen& its) : seen(its) {}
  bool Ready() const override { return true; }
  void Submit(uint32_t slot, std::string_view body) override {
    seen.submitted.push_back(slot);
    seen.to_say += body;
  }
  bool Receive(const char* data, size_t size) override {
    seen.heard.append(data, size);
    return !seen.refuses;
  }
  bool Send(std::string& out, size_t limit) override {
    const size_t now = std::min(limit, seen.to_say.size());
    out.append(seen.to_say, 0, now);
    seen.to_say.erase(0, now);
    return true;
  }
  bool finished() const override { return false; }
  void Fail(std::string_view reason, bool by_server) override { seen.failures.emplace_back(reason, by_server); }
  Seen& seen;
};

const TestCertificate& Local() {
  static const TestCertificate made("server.test");
  return made;
}

TlsClientOptions Trusting(const std::string& alpn = "http/1.1") {
  TlsClientOptions options;
  options.host = "server.test";
  options.alpn = alpn;
  options.root_certificates = Local().certificate();
  return options;
}

const std::string kHttp2("\2h2"), kHttp1("\10http/1.1");

struct Pair {
  explicit Pair(TlsClientOptions options, const std::string& alpn = {}, const TestCertificate& certificate = Local())
      : server(certificate, alpn) {
    auto made = TlsClient::Make(std::move(options));
    CHECK_EQ(made.status().message(), "");
    client = std::move(made).value();
    session = client->Wrap(std::make_unique<Inside>(seen));
  }
  std::string Written() {
    std::string out;
    CHECK(session->Send(out, 1 << 20));
    return out;
  }
  bool Receive(const std::string& bytes, size_t piece = ~size_t{0}) {
    for (size_t at = 0; at < bytes.size(); at += std::min(piece, bytes.size() - at)) {
      if (!session->Receive(bytes.data() + at, std::min(piece, bytes.size() - at))) return false;
    }
    return true;
  }
  // Both sides talk until neither has anything to say. False where the client has given up.
  bool Talk(size_t piece = ~size_t{0}) {
    for (;;) {
      std::string to_server;
      if (!session->Send(to_server, 1 << 20)) return false;
      server.Receive(to_server);
      const std::string to_client = server.Take();
      if (to_server.empty() && to_client.empty()) return true;
      if (!Receive(to_client, piece)) return false;
    }
  }

  Inside::Seen seen;
  TlsServerSide server;
  std::shared_ptr<TlsClient> client;
  std::unique_ptr<ClientSession> session;
};

TEST(LoadTls, NothingIsSaidBeforeTheServerIsKnown) {
  Pair pair(Trusting("h2"), kHttp2);
  pair.seen.to_say = "secret";
  CHECK(!pair.session->Ready());
  const std::string hello = pair.Written();
  CHECK_EQ(hello[0], '\x16');  // a handshake, in the clear
  CHECK(hello.find("server.test") != std::string::npos && hello.find(kHttp2) != std::string::npos);
  CHECK_EQ(pair.seen.to_say, "secret");
  CHECK_EQ(pair.Written(), "");
  pair.server.Receive(hello);
  CHECK(pair.Talk());
  CHECK(pair.session->Ready() && !pair.session->finished());
  CHECK_EQ(pair.server.heard(), "secret");
}

TEST(LoadTls, BytesComeWholeInAnyPieces) {
  for (const size_t piece : {size_t{1}, size_t{7}, ~size_t{0}}) {
    Pair pair(Trusting(), kHttp1);
    CHECK(pair.Talk(piece));
    std::string question, answer;
    for (int i = 0; i < 20000; ++i) question += std::to_string(i);  // more than a record holds
    for (int i = 0; i < 30000; ++i) answer += std::to_string(7 * i);
    pair.session->Submit(3, question);
    const std::string wire = pair.Written();
    CHECK(wire.find("1999619997") == std::string::npos);
    pair.server.Receive(wire);
    CHECK_EQ(pair.server.heard(), question);
    CHECK_EQ(pair.seen.submitted.size(), 1u);
    pair.server.Say(answer);
    CHECK(pair.Talk(piece));
    CHECK_EQ(pair.seen.heard, answer);
  }
}

TEST(LoadTls, TheLimitOfWhatIsSentIsKept) {
  Pair pair(Trusting());
  CHECK(pair.Talk());
  pair.seen.to_say = std::string(100000, 'x');
  std::string out;
  CHECK(pair.session->Send(out, 1000));
  CHECK_EQ(pair.seen.to_say.size(), 99000u);
  CHECK(out.size() > 1000 && out.size() < 1200);
}

// Expects the handshake to fail with `text`, and nothing of what is within to have been sent.
void CheckRefused(Pair pair, const std::string& text) {
  pair.seen.to_say = "secret";
  CHECK(!pair.Talk());
  CHECK(!pair.session->Ready());
  CHECK_EQ(std::string(pair.session->failure()).substr(0, text.size()), text);
  CHECK_EQ(pair.seen.to_say, "secret");
}

TEST(LoadTls, ServersThatAreNotWhoTheyShouldBe) {
  const TestCertificate other("server.test"), address("127.0.0.1");
  CheckRefused(Pair(Trusting(), kHttp1, other), "TLS: the server's certificate is not trusted: self");
  TlsClientOptions options = Trusting();
  options.host = "elsewhere.test";
  CheckRefused(Pair(options), "TLS: the server's certificate is not one of 'elsewhere.test'");
  options.host = "127.0.0.1";
  CheckRefused(Pair(options), "TLS: the server's certificate is not one of '127.0.0.1'");
  CheckRefused(Pair(Trusting("h2")), "TLS: the server does not offer HTTP/2");
  CheckRefused(Pair(Trusting("h2"), kHttp1), "TLS: the server does not offer HTTP/2");
}

TEST(LoadTls, WhatIsNotToBeLookedAtIsNot) {
  const TestCertificate other("server.test");
  TlsClientOptions options = Trusting();
  options.verifies_peer = false;
  Pair untrusted(options, {}, other);
  CHECK(untrusted.Talk() && untrusted.session->Ready());
  options = Trusting();
  options.host = "elsewhere.test";
  options.verifies_host = false;
  Pair elsewhere(options);
  CHECK(elsewhere.Talk() && elsewhere.session->Ready());
}

// An answer that ends with the connection is whole only where the server has said so.
TEST(LoadTls, AnEndCountsWhereTheServerHasSaidSo) {
  for (const bool says_so : {false, true}) {
    Pair pair(Trusting());
    CHECK(pair.Talk());
    pair.server.Say("answer");
    if (says_so) pair.server.Close();
    CHECK(pair.Receive(pair.server.Take()));
    CHECK_EQ(pair.session->finished(), says_so);
    CHECK_EQ(pair.session->Ready(), !says_so);
    pair.session->Fail("closed", true);
    CHECK_EQ(pair.seen.failures.size(), 1u);
    CHECK_EQ(pair.seen.failures[0].second, says_so);
  }
}

TEST(LoadTls, BytesThatAreNoTls) {
  Pair fresh(Trusting());
  fresh.Written();
  CHECK(!fresh.Receive("HTTP/1.1 400 Bad Request\r\n\r\n"));
  CHECK_EQ(std::string(fresh.session->failure()).substr(0, 44), "TLS: there is no agreement with the server: ");

  Pair later(Trusting());
  CHECK(later.Talk());
  later.server.Say("answer");
  std::string changed = later.server.Take();
  changed.back() = static_cast<char>(changed.back() ^ 1);
  CHECK(!later.Receive(changed));
  CHECK_EQ(std::string(later.session->failure()).substr(0, 5), "TLS: ");
  CHECK_EQ(later.seen.heard, "");
}

TEST(LoadTls, WhatIsWithinMayRefuse) {
  Pair pair(Trusting());
  CHECK(pair.Talk());
  pair.seen.refuses = true;
  pair.server.Say("answer");
  CHECK(!pair.Receive(pair.server.Take()));
  CHECK_EQ(pair.session->failure(), "");
}

void CheckFile(std::string TlsClientOptions::* which, const std::string& file, const std::string& what) {
  TlsClientOptions options = Trusting();
  options.certificate = Local().certificate();
  options.*which = file;
  const auto made = TlsClient::Make(options);
  CHECK(made.status().code() == Code::kInvalidArg);
  const std::string text = file + " can not be used as " + what;
  CHECK_EQ(made.status().message().substr(0, text.size()), text);
}

TEST(LoadTls, FilesAreLookedAtBeforeAnythingIsSent) {
  const TestCertificate other("other.test");
  for (const std::string& file : {other.Nonsense(), std::string("/absent.pem")}) {
    CheckFile(&TlsClientOptions::root_certificates, file, "root certificates (PEM)");
    CheckFile(&TlsClientOptions::certificate, file, "the client's certificate (PEM)");
    CheckFile(&TlsClientOptions::private_key, file, "the client's private key (PEM, without a password)");
  }
  CheckFile(&TlsClientOptions::private_key, other.key(), "the client's private key");
}

TEST(LoadTls, TheLibraryIsFoundOnce) {
  const auto first = TlsLibrary::Get(), again = TlsLibrary::Get();
  CHECK(first.ok() && again.ok());
  CHECK(first.value() == again.value());
  CHECK(first.value()->client_method != nullptr && first.value()->clear_errors != nullptr);
}

}  // namespace
}  // namespace pyinfer
