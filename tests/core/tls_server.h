// SPDX-License-Identifier: Apache-2.0
// tls_server.h - the server's side of a TLS connection, without a socket, and the certificates that it shows. The
// functions of OpenSSL that only servers need are found here as the load's own are: at run time.
#pragma once

#include <dlfcn.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include "check.h"
#include "folder.h"
#include "load/tls_library.h"

namespace pyinfer::testing {

template <typename Function>
Function* Openssl(const char* name) {
  static void* const library = dlopen("libssl.so.3", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw Failure("these tests need OpenSSL 3: libssl.so.3");
  void* const found = dlsym(library, name);
  if (found == nullptr) throw Failure(std::string("libssl.so.3 lacks ") + name);
  return reinterpret_cast<Function*>(found);
}

// A key and a certificate signed with it, of one day, in files of PEM.
class TestCertificate {
 public:
  explicit TestCertificate(const std::string& host) {
    void* const key =
        Openssl<void*(void*, const char*, const char*, ...)>("EVP_PKEY_Q_keygen")(nullptr, nullptr, "EC", "P-256");
    void* const certificate = Openssl<void*()>("X509_new")();
    Openssl<int(void*, long)>("X509_set_version")(certificate, 2);
    void* const serial = Openssl<void*(void*)>("X509_get_serialNumber")(certificate);
    Openssl<int(void*, long)>("ASN1_INTEGER_set")(serial, 1);
    const auto moment = Openssl<void*(void*, long)>("X509_gmtime_adj");
    moment(Openssl<void*(void*)>("X509_getm_notBefore")(certificate), -3600);
    moment(Openssl<void*(void*)>("X509_getm_notAfter")(certificate), 24 * 3600);
    Openssl<int(void*, void*)>("X509_set_pubkey")(certificate, key);
    void* const name = Openssl<void*(void*)>("X509_get_subject_name")(certificate);
    constexpr int kAscii = 0x1001;
    const auto* const text = reinterpret_cast<const unsigned char*>(host.c_str());
    Openssl<int(void*, const char*, int, const unsigned char*, int, int, int)>("X509_NAME_add_entry_by_txt")(
        name, "CN", kAscii, text, -1, -1, 0);
    Openssl<int(void*, void*)>("X509_set_issuer_name")(certificate, name);
    Openssl<int(void*, void*, const void*)>("X509_sign")(certificate, key, Openssl<const void*()>("EVP_sha256")());
    Write(this->certificate(), [&](void* out) { Openssl<int(void*, void*)>("PEM_write_bio_X509")(out, certificate); });
    Write(this->key(), [&](void* out) {
      Openssl<int(void*, void*, void*, void*, int, void*, void*)>("PEM_write_bio_PrivateKey")(
          out, key, nullptr, nullptr, 0, nullptr, nullptr);
    });
    Openssl<void(void*)>("X509_free")(certificate);
    Openssl<void(void*)>("EVP_PKEY_free")(key);
  }

  std::string certificate() const { return folder_ / "certificate.pem"; }
  std::string key() const { return folder_ / "key.pem"; }
  // One that holds no PEM.
  std::string Nonsense() const {
    std::ofstream(folder_ / "nonsense.pem") << "nonsense";
    return folder_ / "nonsense.pem";
  }

 private:
  template <typename Writer>
  static void Write(const std::string& path, Writer write) {
    void* const out = Openssl<void*(const char*, const char*)>("BIO_new_file")(path.c_str(), "w");
    if (out == nullptr) throw Failure(path + " can not be written");
    write(out);
    Openssl<int(void*)>("BIO_free")(out);
  }

  const Folder folder_;
};

// What comes from the client goes into Receive, what is for it comes out of Take. `alpn`: the one that is chosen where
// the client offers it, with its length before it; empty: the server knows none.
class TlsServerSide {
 public:
  explicit TlsServerSide(const TestCertificate& certificate, std::string alpn = {}) : alpn_(std::move(alpn)) {
    context_ = Openssl<void*(const void*)>("SSL_CTX_new")(Openssl<const void*()>("TLS_server_method")());
    Openssl<int(void*, const char*)>("SSL_CTX_use_certificate_chain_file")(context_, certificate.certificate().c_str());
    Openssl<int(void*, const char*, int)>("SSL_CTX_use_PrivateKey_file")(context_, certificate.key().c_str(), 1);
    if (!alpn_.empty()) Openssl<void(void*, Choose*, void*)>("SSL_CTX_set_alpn_select_cb")(context_, ChooseAlpn, this);
    connection_ = Openssl<void*(void*)>("SSL_new")(context_);
    const auto memory = [] { return Openssl<void*(const void*)>("BIO_new")(Openssl<const void*()>("BIO_s_mem")()); };
    incoming_ = memory();
    outgoing_ = memory();
    Openssl<void(void*, void*, void*)>("SSL_set_bio")(connection_, incoming_, outgoing_);
    Openssl<void(void*)>("SSL_set_accept_state")(connection_);
  }
  ~TlsServerSide() {
    Openssl<void(void*)>("SSL_free")(connection_);
    Openssl<void(void*)>("SSL_CTX_free")(context_);
  }
  TlsServerSide(const TlsServerSide&) = delete;
  TlsServerSide& operator=(const TlsServerSide&) = delete;

  // What the client has said within, so far.
  const std::string& heard() const { return heard_; }

  void Receive(std::string_view bytes) {
    if (!bytes.empty()) {
      Openssl<int(void*, const void*, int)>("BIO_write")(incoming_, bytes.data(), static_cast<int>(bytes.size()));
    }
    std::array<char, 4096> plain;
    for (;;) {
      const int got = Openssl<int(void*, void*, int)>("SSL_read")(connection_, plain.data(), plain.size());
      if (got <= 0) return;
      heard_.append(plain.data(), static_cast<size_t>(got));
    }
  }
  void Say(std::string_view text) {
    Openssl<int(void*, const void*, int)>("SSL_write")(connection_, text.data(), static_cast<int>(text.size()));
  }
  // Says that nothing follows.
  void Close() { Openssl<int(void*)>("SSL_shutdown")(connection_); }
  std::string Take() {
    std::string out(Openssl<size_t(void*)>("BIO_ctrl_pending")(outgoing_), '\0');
    if (!out.empty()) {
      Openssl<int(void*, void*, int)>("BIO_read")(outgoing_, out.data(), static_cast<int>(out.size()));
    }
    return out;
  }

 private:
  using Choose = int(void*, const unsigned char**, unsigned char*, const unsigned char*, unsigned, void*);

  static int ChooseAlpn(void*, const unsigned char** chosen, unsigned char* size, const unsigned char* offered,
                        unsigned offered_size, void* self) {
    constexpr int kOk = 0, kNoAcknowledgement = 3;
    const std::string& own = static_cast<TlsServerSide*>(self)->alpn_;
    const std::string_view all(reinterpret_cast<const char*>(offered), offered_size);
    const size_t at = all.find(own);
    if (at == std::string_view::npos) return kNoAcknowledgement;
    *chosen = offered + at + 1;
    *size = offered[at];
    return kOk;
  }

  const std::string alpn_;
  void* context_;
  void* connection_;
  void* incoming_;
  void* outgoing_;
  std::string heard_;
};

}  // namespace pyinfer::testing
