// SPDX-License-Identifier: Apache-2.0
// address.h - IP addresses in digits, for sockets.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>

namespace pyinfer {

// Fills `to`; its size, 0 where `address` is none.
socklen_t ToSockaddr(const std::string& address, uint16_t port, sockaddr_storage& to);

// What the operating system says of an errno.
std::string TextOfError(int error);

}  // namespace pyinfer
