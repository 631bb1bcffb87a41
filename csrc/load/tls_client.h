// SPDX-License-Identifier: Apache-2.0
// tls_client.h - a client's sessions inside TLS. No socket: what a session reads and writes is what is on the wire.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "load/session.h"
#include "load/tls_library.h"

namespace pyinfer {

// Files are paths; empty where there is none.
struct TlsClientOptions {
  // Of the server, as its certificate is to have it: a name, or an IP address in digits.
  std::string host;
  // What is to be spoken inside, as ALPN names it: "h2", which the server has to agree to, or "http/1.1".
  std::string alpn;
  std::string root_certificates;  // PEM; otherwise those that the system trusts
  std::string certificate;        // of the client, with its chain, in PEM
  std::string private_key;        // of it, in PEM, without a password
  bool verifies_peer = true;      // that the certificate is signed by one of the roots
  bool verifies_host = true;      // that it is that of `host`
};

// What the connections to a server have in common. Any thread.
class TlsClient {
 public:
  // Reads the files. Unavailable where there is no OpenSSL 3, InvalidArg for files that are none of what they should
  // be.
  static StatusOr<std::shared_ptr<TlsClient>> Make(TlsClientOptions options);
  ~TlsClient();
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;

  // `inside` within a TLS connection of its own. It is Ready() when both sides have shaken hands and the certificate is
  // what the options ask for; nothing of `inside` is sent before. This outlives the session.
  std::unique_ptr<ClientSession> Wrap(std::unique_ptr<ClientSession> inside) const;

 private:
  friend class TlsSession;

  TlsClient(const TlsLibrary& library, TlsClientOptions options);
  Status Configure();

  const TlsLibrary& library_;
  const TlsClientOptions options_;
  TlsContextTag* context_;
};

}  // namespace pyinfer
