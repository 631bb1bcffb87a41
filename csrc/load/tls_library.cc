// SPDX-License-Identifier: Apache-2.0
#include "load/tls_library.h"

#include <dlfcn.h>

#include <string>
#include <type_traits>

namespace pyinfer {
namespace {

constexpr const char* kLibrary = "libssl.so.3";

}  // namespace

StatusOr<const TlsLibrary*> TlsLibrary::Get() {
  struct Loaded {
    TlsLibrary library{};
    Status status;
  };
  static const Loaded* const loaded = [] {
    auto* made = new Loaded;  // never freed, like the library itself
    made->status = made->library.Load();
    return made;
  }();
  if (!loaded->status.ok()) return loaded->status;
  return &loaded->library;
}

Status TlsLibrary::Load() {
  void* const library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return Status::Unavailable(std::string("TLS needs OpenSSL 3 on this machine: ") + kLibrary +
                               " can not be opened; install it (on Debian and Ubuntu the package libssl3)");
  }
  const char* missing = nullptr;
  // Those of libcrypto are found as well: libssl depends on it.
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
    if (function == nullptr && missing == nullptr) missing = name;
  };
  find(client_method, "TLS_client_method");
  find(context_new, "SSL_CTX_new");
  find(context_free, "SSL_CTX_free");
  find(context_ctrl, "SSL_CTX_ctrl");
  find(context_set_verify, "SSL_CTX_set_verify");
  find(context_set_default_verify_paths, "SSL_CTX_set_default_verify_paths");
  find(context_load_verify_file, "SSL_CTX_load_verify_file");
  find(context_use_certificate_chain_file, "SSL_CTX_use_certificate_chain_file");
  find(context_use_private_key_file, "SSL_CTX_use_PrivateKey_file");
  find(context_set_alpn_protos, "SSL_CTX_set_alpn_protos");
  find(context_set_default_passwd_cb, "SSL_CTX_set_default_passwd_cb");
  find(connection_new, "SSL_new");
  find(connection_free, "SSL_free");
  find(connection_ctrl, "SSL_ctrl");
  find(set_connect_state, "SSL_set_connect_state");
  find(set_bio, "SSL_set_bio");
  find(do_handshake, "SSL_do_handshake");
  find(read, "SSL_read");
  find(write, "SSL_write");
  find(get_error, "SSL_get_error");
  find(get_verify_result, "SSL_get_verify_result");
  find(get_alpn_selected, "SSL_get0_alpn_selected");
  find(get_peer_certificate, "SSL_get1_peer_certificate");
  find(bio_new, "BIO_new");
  find(bio_memory, "BIO_s_mem");
  find(bio_read, "BIO_read");
  find(bio_write, "BIO_write");
  find(bio_pending, "BIO_ctrl_pending");
  find(verify_error_string, "X509_verify_cert_error_string");
  find(check_host, "X509_check_host");
  find(check_address, "X509_check_ip_asc");
  find(certificate_free, "X509_free");
  find(get_error_code, "ERR_get_error");
  find(error_string, "ERR_reason_error_string");
  find(clear_errors, "ERR_clear_error");
  if (missing == nullptr) return {};
  return Status::Unavailable(std::string("TLS needs OpenSSL 3: the ") + kLibrary + " of this machine lacks " + missing);
}

}  // namespace pyinfer
