// SPDX-License-Identifier: Apache-2.0
#include "load/tls_client.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <climits>
#include <new>
#include <string_view>
#include <utility>

namespace pyinfer {
namespace {

// Of OpenSSL's public headers.
constexpr int kFilePem = 1;
constexpr int kVerifyPeer = 1;
constexpr int kCtrlMode = 33;
constexpr int kCtrlSetHostName = 55;
constexpr int kCtrlSetMinVersion = 123;
constexpr long kTls12 = 0x0303;
constexpr long kModeReleaseBuffers = 0x10;
constexpr int kErrorWantRead = 2;
constexpr int kErrorWantWrite = 3;
constexpr int kErrorZeroReturn = 6;
constexpr long kVerifyOk = 0;
// Plain bytes of a record at most.
constexpr size_t kRecord = 16u << 10;

// Whatever OpenSSL has to say about what has just failed.
std::string Reason(const TlsLibrary& library) {
  const char* text = nullptr;
  // The first is the deepest.
  while (const unsigned long code = library.get_error_code()) {
    if (text == nullptr) text = library.error_string(code);
  }
  return text == nullptr ? "no reason is known" : text;
}

bool IsAddress(const std::string& host) {
  std::array<unsigned char, 16> ignored;
  return inet_pton(AF_INET, host.c_str(), ignored.data()) == 1 ||
         inet_pton(AF_INET6, host.c_str(), ignored.data()) == 1;
}

}  // namespace

class TlsSession final : public ClientSession {
 public:
  TlsSession(const TlsClient& client, std::unique_ptr<ClientSession> inside)
      : library_(client.library_), options_(client.options_), inside_(std::move(inside)) {
    connection_ = library_.connection_new(client.context_);
    if (connection_ == nullptr) throw std::bad_alloc();
    incoming_ = library_.bio_new(library_.bio_memory());
    outgoing_ = library_.bio_new(library_.bio_memory());
    library_.set_bio(connection_, incoming_, outgoing_);  // which owns both from here on
    library_.set_connect_state(connection_);
    if (!IsAddress(options_.host)) {
      library_.connection_ctrl(connection_, kCtrlSetHostName, 0, const_cast<char*>(options_.host.c_str()));
    }
  }
  ~TlsSession() override { library_.connection_free(connection_); }
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  bool Ready() const override { return shaken_ && !closed_ && inside_->Ready(); }
  void Submit(uint32_t slot, std::string_view body) override { inside_->Submit(slot, body); }
  bool finished() const override { return closed_ || (shaken_ && inside_->finished()); }
  // Without the server's word that it was all, somebody else may have cut an answer short.
  void Fail(std::string_view reason, bool by_server) override { inside_->Fail(reason, by_server && closed_); }
  std::string_view failure() const override { return failure_; }

  bool Receive(const char* data, size_t size) override {
    library_.clear_errors();
    while (size > 0) {
      const int part = static_cast<int>(std::min<size_t>(size, INT_MAX));
      if (library_.bio_write(incoming_, data, part) != part) return Broken("there is no memory");
      data += part;
      size -= static_cast<size_t>(part);
    }
    if (!shaken_ && !Shake()) return false;
    if (!shaken_) return true;
    std::array<char, kRecord> plain;
    for (;;) {
      const int got = library_.read(connection_, plain.data(), static_cast<int>(plain.size()));
      if (got > 0) {
        if (!inside_->Receive(plain.data(), static_cast<size_t>(got))) return false;
        continue;
      }
      const int error = library_.get_error(connection_, got);
      if (error == kErrorZeroReturn) closed_ = true;
      if (error == kErrorZeroReturn || error == kErrorWantRead || error == kErrorWantWrite) return true;
      return Broken(Reason(library_));
    }
  }

  bool Send(std::string& out, size_t limit) override {
    library_.clear_errors();
    if (!shaken_ && !Shake()) return false;
    if (shaken_) {
      plain_.clear();
      if (!inside_->Send(plain_, limit)) return false;
      // Memory takes all of it at once.
      const int size = static_cast<int>(plain_.size());
      if (size != 0 && library_.write(connection_, plain_.data(), size) != size) return Broken(Reason(library_));
    }
    TakeOutgoing(out);
    return true;
  }

 private:
  void TakeOutgoing(std::string& out) {
    const size_t size = library_.bio_pending(outgoing_);
    const size_t before = out.size();
    out.resize(before + size);
    if (size != 0) library_.bio_read(outgoing_, out.data() + before, static_cast<int>(size));
  }

  bool Broken(const std::string& reason) {
    failure_ = "TLS: " + reason;
    return false;
  }

  // Goes on with the handshake. False where it has failed.
  bool Shake() {
    const int done = library_.do_handshake(connection_);
    if (done == 1) return Accept();
    const int error = library_.get_error(connection_, done);
    if (error == kErrorWantRead || error == kErrorWantWrite) return true;
    const long verified = library_.get_verify_result(connection_);
    if (options_.verifies_peer && verified != kVerifyOk) {
      library_.clear_errors();
      return Broken("the server's certificate is not trusted: " + std::string(library_.verify_error_string(verified)));
    }
    return Broken("there is no agreement with the server: " + Reason(library_));
  }

  // Looks at what both sides have agreed on.
  bool Accept() {
    if (options_.verifies_host && !IsOfHost()) {
      return Broken("the server's certificate is not one of '" + options_.host + "'");
    }
    const unsigned char* chosen = nullptr;
    unsigned size = 0;
    library_.get_alpn_selected(connection_, &chosen, &size);
    const std::string_view alpn(reinterpret_cast<const char*>(chosen), size);
    if (options_.alpn == "h2" && alpn != "h2") {
      return Broken("the server does not offer HTTP/2 (h2 by ALPN); is this its gRPC port?");
    }
    shaken_ = true;
    return true;
  }

  bool IsOfHost() const {
    TlsCertificateTag* const certificate = library_.get_peer_certificate(connection_);
    if (certificate == nullptr) return false;
    const std::string& host = options_.host;
    const int matches = IsAddress(host) ? library_.check_address(certificate, host.c_str(), 0)
                                        : library_.check_host(certificate, host.data(), host.size(), 0, nullptr);
    library_.certificate_free(certificate);
    return matches == 1;
  }

  const TlsLibrary& library_;
  const TlsClientOptions& options_;
  const std::unique_ptr<ClientSession> inside_;
  TlsConnectionTag* connection_;
  TlsBioTag* incoming_;
  TlsBioTag* outgoing_;
  std::string plain_;
  std::string failure_;
  bool shaken_ = false;
  bool closed_ = false;  // the server has said that nothing follows
};

TlsClient::TlsClient(const TlsLibrary& library, TlsClientOptions options)
    : library_(library), options_(std::move(options)), context_(library.context_new(library.client_method())) {
  if (context_ == nullptr) throw std::bad_alloc();
}

TlsClient::~TlsClient() { library_.context_free(context_); }

StatusOr<std::shared_ptr<TlsClient>> TlsClient::Make(TlsClientOptions options) {
  const StatusOr<const TlsLibrary*> library = TlsLibrary::Get();
  if (!library.ok()) return library.status();
  std::shared_ptr<TlsClient> client(new TlsClient(*library.value(), std::move(options)));
  if (Status status = client->Configure(); !status.ok()) return status;
  return client;
}

Status TlsClient::Configure() {
  library_.clear_errors();
  const auto failed = [this](const std::string& what, const std::string& file) {
    return Status::InvalidArg(file + " can not be used as " + what + ": " + Reason(library_));
  };
  library_.context_ctrl(context_, kCtrlSetMinVersion, kTls12, nullptr);
  library_.context_ctrl(context_, kCtrlMode, kModeReleaseBuffers, nullptr);
  // OpenSSL would ask for the password at the terminal.
  library_.context_set_default_passwd_cb(context_, [](char*, int, int, void*) { return 0; });
  if (options_.verifies_peer) library_.context_set_verify(context_, kVerifyPeer, nullptr);
  const std::string& roots = options_.root_certificates;
  if (roots.empty()) {
    library_.context_set_default_verify_paths(context_);
  } else if (library_.context_load_verify_file(context_, roots.c_str()) != 1) {
    return failed("root certificates (PEM)", roots);
  }
  const std::string& certificate = options_.certificate;
  if (!certificate.empty() && library_.context_use_certificate_chain_file(context_, certificate.c_str()) != 1) {
    return failed("the client's certificate (PEM)", certificate);
  }
  const std::string& key = options_.private_key;
  if (!key.empty()) {
    // It is looked at whether it belongs to the certificate, too.
    if (library_.context_use_private_key_file(context_, key.c_str(), kFilePem) != 1) {
      return failed("the client's private key (PEM, without a password)", key);
    }
  }
  std::string names(1, static_cast<char>(options_.alpn.size()));
  names += options_.alpn;
  library_.context_set_alpn_protos(context_, reinterpret_cast<const unsigned char*>(names.data()),
                                   static_cast<unsigned>(names.size()));
  return {};
}

std::unique_ptr<ClientSession> TlsClient::Wrap(std::unique_ptr<ClientSession> inside) const {
  return std::make_unique<TlsSession>(*this, std::move(inside));
}

}  // namespace pyinfer
