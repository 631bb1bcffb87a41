// SPDX-License-Identifier: Apache-2.0
// connections.h - Python's references to the mailbox and the connections of an event loop.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string_view>
#include <utility>

#include "engine/engine.h"
#include "protocol/connection.h"

namespace pyinfer {

// Understanding this many bytes takes longer than taking the GIL again.
inline constexpr size_t kReleaseGilFrom = 16384;

inline pybind11::memoryview Writable(uint8_t* data, size_t size) {
  return pybind11::memoryview::from_memory(data, static_cast<pybind11::ssize_t>(size));
}

inline pybind11::bytes ToBytes(std::string_view data) { return pybind11::bytes(data.data(), data.size()); }

class MailboxHandle {
 public:
  explicit MailboxHandle(const std::shared_ptr<Engine>& engine)
      : mailbox(std::make_shared<Mailbox>(engine)), doorbell_(engine->doorbell()) {
    mailbox->acceptor().Listen(mailbox);
  }
  ~MailboxHandle() { Leave(); }
  MailboxHandle(const MailboxHandle&) = delete;
  MailboxHandle& operator=(const MailboxHandle&) = delete;

  Doorbell& Attend() {
    if (!std::exchange(attends_, true)) doorbell_->Attend();
    return *doorbell_;
  }
  std::vector<Written> FlushRung() {
    doorbell_->Lower();
    return mailbox->Flush(/*rung=*/true);
  }
  void Close() {
    Leave();
    mailbox->Close();
  }

  const std::shared_ptr<Mailbox> mailbox;

 private:
  void Leave() {
    if (std::exchange(attends_, false)) doorbell_->Leave();
  }

  const std::shared_ptr<Doorbell> doorbell_;
  bool attends_ = false;
};

// Python's reference to a connection: the connection is closed when it goes, whatever else still holds it.
template <typename C>
class ConnectionHandle {
 public:
  explicit ConnectionHandle(std::shared_ptr<C> connection) : connection_(std::move(connection)) {}
  ~ConnectionHandle() { connection_->Close(); }
  ConnectionHandle(const ConnectionHandle&) = delete;
  ConnectionHandle& operator=(const ConnectionHandle&) = delete;

  C& operator*() const { return *connection_; }
  C* operator->() const { return connection_.get(); }

 private:
  const std::shared_ptr<C> connection_;
};

}  // namespace pyinfer
