// SPDX-License-Identifier: Apache-2.0
// tls_library.h - the functions of OpenSSL that a client needs, found at run time.
//
// libssl.so.3 is opened when TLS is first asked for, never linked to: nothing depends on it, and security updates are
// the system's. No header of it is needed; the declarations are those of its public binary interface. Any thread.
#pragma once

#include <cstddef>

#include "base/status.h"

namespace pyinfer {

struct TlsContextTag;      // SSL_CTX
struct TlsConnectionTag;   // SSL
struct TlsMethodTag;       // SSL_METHOD
struct TlsBioTag;          // BIO
struct TlsBioMethodTag;    // BIO_METHOD
struct TlsCertificateTag;  // X509

struct TlsLibrary {
  // The library of this process, or why there is none.
  static StatusOr<const TlsLibrary*> Get();

  // Each is named as OpenSSL does, without the prefix that says what it is of.
  const TlsMethodTag* (*client_method)();
  TlsContextTag* (*context_new)(const TlsMethodTag*);
  void (*context_free)(TlsContextTag*);
  long (*context_ctrl)(TlsContextTag*, int, long, void*);
  void (*context_set_verify)(TlsContextTag*, int, int (*)(int, void*));
  int (*context_set_default_verify_paths)(TlsContextTag*);
  int (*context_load_verify_file)(TlsContextTag*, const char*);
  int (*context_use_certificate_chain_file)(TlsContextTag*, const char*);
  int (*context_use_private_key_file)(TlsContextTag*, const char*, int);
  int (*context_set_alpn_protos)(TlsContextTag*, const unsigned char*, unsigned);
  void (*context_set_default_passwd_cb)(TlsContextTag*, int (*)(char*, int, int, void*));

  TlsConnectionTag* (*connection_new)(TlsContextTag*);
  void (*connection_free)(TlsConnectionTag*);
  long (*connection_ctrl)(TlsConnectionTag*, int, long, void*);
  void (*set_connect_state)(TlsConnectionTag*);
  void (*set_bio)(TlsConnectionTag*, TlsBioTag*, TlsBioTag*);
  int (*do_handshake)(TlsConnectionTag*);
  int (*read)(TlsConnectionTag*, void*, int);
  int (*write)(TlsConnectionTag*, const void*, int);
  int (*get_error)(const TlsConnectionTag*, int);
  long (*get_verify_result)(const TlsConnectionTag*);
  void (*get_alpn_selected)(const TlsConnectionTag*, const unsigned char**, unsigned*);
  TlsCertificateTag* (*get_peer_certificate)(const TlsConnectionTag*);

  TlsBioTag* (*bio_new)(const TlsBioMethodTag*);
  const TlsBioMethodTag* (*bio_memory)();
  int (*bio_read)(TlsBioTag*, void*, int);
  int (*bio_write)(TlsBioTag*, const void*, int);
  size_t (*bio_pending)(TlsBioTag*);

  const char* (*verify_error_string)(long);
  int (*check_host)(TlsCertificateTag*, const char*, size_t, unsigned, char**);
  int (*check_address)(TlsCertificateTag*, const char*, unsigned);
  void (*certificate_free)(TlsCertificateTag*);

  unsigned long (*get_error_code)();
  const char* (*error_string)(unsigned long);
  void (*clear_errors)();

 private:
  Status Load();
};

}  // namespace pyinfer
