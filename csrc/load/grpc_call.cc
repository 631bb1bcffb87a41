// SPDX-License-Identifier: Apache-2.0
#include "load/grpc_call.h"

#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "load/address.h"
#include "wire/grpc_prefix.h"

namespace pyinfer {
namespace {

constexpr size_t kSendLimit = 256u << 10;
constexpr std::string_view kClosed = "the server has closed the connection; is this its gRPC port?";
constexpr std::string_view kTlsClosed =
    "the server has closed the connection; is this its gRPC port, and does it trust the client's certificate?";

class Waiter final : public SessionHandler {
 public:
  void OnAnswerBegins(uint32_t) override {}
  void OnResponse(uint32_t) override {}
  void OnAnswer(uint32_t, const Answer& answer) override {
    if (!answer.error.empty()) {
      result = Status::Unavailable(std::string(answer.error));
    } else if (answer.body.size() < kGrpcPrefixSize || answer.body[0] != 0) {
      result = Status::Internal("the server has answered without a message");
    } else {
      result = std::string(answer.body.substr(kGrpcPrefixSize));
    }
  }
  std::optional<StatusOr<std::string>> result;
};

struct Socket {
  int fd = -1;
  ~Socket() {
    if (fd >= 0) close(fd);
  }
};

Status CanNotConnect(int error) { return Status::Unavailable("can not connect to the server: " + TextOfError(error)); }

// Writes all of `out` that the kernel takes. False where the connection is lost.
bool WriteSome(int socket, std::string& out) {
  while (!out.empty()) {
    const ssize_t size = send(socket, out.data(), out.size(), MSG_NOSIGNAL);
    if (size < 0) return errno == EAGAIN || errno == EINTR;
    out.erase(0, static_cast<size_t>(size));
  }
  return true;
}

}  // namespace

StatusOr<std::string> CallGrpc(const std::string& address, uint16_t port, const ClientHeaders& headers,
                               const std::string& message, double timeout_s, const TlsClient* tls) {
  const SystemClock clock;
  const TimeNs until = clock.Now() + static_cast<TimeNs>(std::clamp(timeout_s, 0.0, 1e6) * 1e9);
  sockaddr_storage to{};
  const socklen_t size = ToSockaddr(address, port, to);
  const Socket socket{::socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (socket.fd < 0) return CanNotConnect(errno);
  if (connect(socket.fd, reinterpret_cast<sockaddr*>(&to), size) != 0 && errno != EINPROGRESS) {
    return CanNotConnect(errno);
  }
  Waiter waiter;
  const std::string body = WithGrpcPrefix(message);
  auto session = MakeGrpcSession(waiter, headers, 1, true);
  session->Submit(0, body);  // inside TLS it waits for the handshake
  if (tls != nullptr) session = tls->Wrap(std::move(session));
  std::string out;
  std::string in(64u << 10, '\0');
  while (!waiter.result) {
    const TimeNs left = until - clock.Now();
    if (left <= 0) return Status(Code::kDeadlineExceeded, "the server has not answered in time");
    if (out.empty() && !session->Send(out, kSendLimit)) {
      const std::string why(session->failure());
      return Status::Unavailable(why.empty() ? "the server has broken the protocol" : why);
    }
    pollfd watched{socket.fd, static_cast<short>(out.empty() ? POLLIN : POLLIN | POLLOUT), 0};
    poll(&watched, 1, static_cast<int>(std::min<TimeNs>(left / 1'000'000 + 1, 1000)));
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(socket.fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) return CanNotConnect(error);
    if ((watched.revents & POLLOUT) != 0 && !WriteSome(socket.fd, out)) return CanNotConnect(errno);
    if ((watched.revents & (POLLIN | POLLHUP)) == 0) continue;
    const ssize_t got = recv(socket.fd, in.data(), in.size(), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0) {
      session->Fail(tls == nullptr ? kClosed : kTlsClosed, true);
    } else if (!session->Receive(in.data(), static_cast<size_t>(got))) {
      const std::string why(session->failure());
      session->Fail(why.empty() ? "the server does not speak HTTP/2; is this its gRPC port?" : why, false);
    }
  }
  return *waiter.result;
}

}  // namespace pyinfer
