// SPDX-License-Identifier: Apache-2.0
#include "load/fake_server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include "load/fake_connection.h"

namespace pyinfer {
namespace {

constexpr TimeNs kLongestTurn = 20'000'000;
constexpr int kInvalidArgument = 3;
constexpr int kUnimplemented = 12;
constexpr std::string_view kErrorText = "injected error";

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

bool IsStreamed(std::string_view path) {
  return EndsWith(path, "/ModelStreamInfer") || EndsWith(path, "/generate_stream");
}

bool IsInference(std::string_view path) {
  return EndsWith(path, "/ModelInfer") || EndsWith(path, "/infer") || IsStreamed(path);
}

[[noreturn]] void Fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

void Watch(int epoll, int how, int socket, uint64_t id, bool writable) {
  epoll_event event{};
  event.events = EPOLLIN | (writable ? static_cast<uint32_t>(EPOLLOUT) : 0);
  event.data.u64 = id;
  if (epoll_ctl(epoll, how, socket, &event) != 0) Fail("epoll_ctl");
}

}  // namespace

FakeServer::FakeServer(FakeServerOptions options, const Clock& clock) : options_(std::move(options)), clock_(clock) {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (epoll_ < 0 || listener_ < 0) Fail("socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  if (bind(listener_, any, size) != 0 || listen(listener_, 1024) != 0 || getsockname(listener_, any, &size) != 0) {
    Fail("listen");
  }
  port_ = ntohs(address.sin_port);
  Watch(epoll_, EPOLL_CTL_ADD, listener_, 0, false);
}

FakeServer::~FakeServer() {
  connections_.clear();
  if (listener_ >= 0) close(listener_);
  if (epoll_ >= 0) close(epoll_);
}

void FakeServer::Run() {
  prctl(PR_SET_TIMERSLACK, 1000UL);
  while (!stopping_.load(std::memory_order_relaxed)) Turn(kLongestTurn);
}

void FakeServer::Stop() { stopping_.store(true, std::memory_order_relaxed); }

FakeServerReport FakeServer::Report() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return report_;
}

void FakeServer::Accept() {
  for (;;) {
    const int client = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client < 0) return;
    const int on = 1;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const uint64_t id = next_id_++;
    Watch(epoll_, EPOLL_CTL_ADD, client, id, false);
    connections_.emplace(id, std::make_unique<FakeConnection>(*this, id, client));
  }
}

void FakeServer::Turn(TimeNs most) {
  if (!due_.empty()) most = std::clamp(due_.top().at - clock_.Now(), TimeNs{0}, most);
  if (most > 0) {
    pollfd watched{epoll_, POLLIN, 0};
    const timespec timeout{static_cast<time_t>(most / 1'000'000'000), static_cast<long>(most % 1'000'000'000)};
    ppoll(&watched, 1, &timeout, nullptr);
  }
  std::array<epoll_event, 64> events;
  const int ready = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 0);
  std::lock_guard<std::mutex> lock(mutex_);
  now_ = clock_.Now();
  for (int i = 0; i < ready; ++i) {
    const epoll_event& event = events[static_cast<size_t>(i)];
    if (event.data.u64 == 0) {
      Accept();
      continue;
    }
    const auto found = connections_.find(event.data.u64);
    if (found == connections_.end()) continue;
    FakeConnection& connection = *found->second;
    if (!connection.Read() || !connection.Write()) {
      connections_.erase(found);
    } else {
      Watch(epoll_, EPOLL_CTL_MOD, connection.socket(), connection.id(), connection.has_unwritten());
    }
  }
  AnswerDue();
}

TimeNs FakeServer::DueAt(TimeNs received) const {
  TimeNs due = received + options_.delays[report_.inferences % options_.delays.size()];
  for (const auto& [begin, length] : options_.stalls) {
    if (due >= begun_ + begin && due < begun_ + begin + length) due = begun_ + begin + length;
  }
  return due;
}

void FakeServer::Arrived(FakeConnection& connection, int32_t stream, std::string_view path, std::string id) {
  if (!IsInference(path)) {
    const auto found = options_.answers.find(path);
    if (found != options_.answers.end()) {
      connection.Respond(stream, found->second);
    } else {
      connection.RespondError(stream, 404, kUnimplemented, "unknown path");
    }
    return;
  }
  if (begun_ == 0) begun_ = now_;
  const TimeNs due = DueAt(now_);
  ++report_.inferences;
  const bool is_error = options_.error_every != 0 && report_.inferences % options_.error_every == 0;
  const uint32_t responses = IsStreamed(path) ? options_.responses : 0;
  due_.push({due, now_, connection.id(), stream, is_error, responses, 0, std::move(id)});
}

void FakeServer::Answer(FakeConnection& connection, Due due, TimeNs now) {
  if (due.is_error) {
    ++report_.errors;
    if (due.id.empty()) return connection.RespondError(due.stream, 400, kInvalidArgument, kErrorText);
    return connection.StreamError(due.stream, due.id, kErrorText);
  }
  if (due.responses == 0) {
    connection.Respond(due.stream, connection.is_grpc() ? options_.grpc_answer : options_.http_answer);
  } else {
    const bool is_first = due.written == 0, is_last = --due.responses == 0;
    ++report_.responses;
    if (is_first) {
      report_.first.Record(now - due.received);
    } else {
      report_.gap.Record(now - due.written);
    }
    connection.Stream(due.stream, due.id, options_.event, is_first, is_last);
    if (!is_last) {
      due.at += options_.gap;
      due.written = now;
      return due_.push(std::move(due));
    }
  }
  report_.injected.Record(due.at - due.received);
  report_.served.Record(now - due.received);
}

void FakeServer::AnswerDue() {
  std::vector<uint64_t> answered;
  const TimeNs now = clock_.Now();
  while (!due_.empty() && due_.top().at <= now) {
    const Due due = due_.top();
    due_.pop();
    const auto found = connections_.find(due.connection);
    if (found == connections_.end()) continue;
    Answer(*found->second, due, now);
    if (std::find(answered.begin(), answered.end(), due.connection) == answered.end()) {
      answered.push_back(due.connection);
    }
  }
  for (const uint64_t id : answered) {
    const auto found = connections_.find(id);
    if (!found->second->Write()) {
      connections_.erase(found);
    } else if (found->second->has_unwritten()) {
      Watch(epoll_, EPOLL_CTL_MOD, found->second->socket(), id, true);
    }
  }
}

}  // namespace pyinfer
