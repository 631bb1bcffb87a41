// SPDX-License-Identifier: Apache-2.0
#include "load/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <system_error>

namespace pyinfer {

socklen_t ToSockaddr(const std::string& address, uint16_t port, sockaddr_storage& to) {
  auto* const v4 = reinterpret_cast<sockaddr_in*>(&to);
  if (inet_pton(AF_INET, address.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    return sizeof(sockaddr_in);
  }
  auto* const v6 = reinterpret_cast<sockaddr_in6*>(&to);
  if (inet_pton(AF_INET6, address.c_str(), &v6->sin6_addr) != 1) return 0;
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(port);
  return sizeof(sockaddr_in6);
}

std::string TextOfError(int error) { return std::generic_category().message(error); }

}  // namespace pyinfer
