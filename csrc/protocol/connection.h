// SPDX-License-Identifier: Apache-2.0
// connection.h - what the connections of one event loop have in common: bytes to be written, and the mailbox through
// which answers made on other threads reach them.
//
// Thread rule: everything belongs to the loop's thread, except Mailbox::Post.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/mailbox.h"
#include "infer/acceptor.h"
#include "memory/output.h"

namespace pyinfer {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  explicit Connection(uint64_t id) : id_(id) {}
  virtual ~Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  uint64_t id() const { return id_; }

  // Moves what may be written now to `output`, at most about kWriteLimit bytes. Returns true where the connection is to
  // be closed after it. Called for connections marked by Mailbox::MarkReady. If more is left than the limit allowed,
  // the connection marks itself again when the transport resumes.
  virtual bool TakeOutput(Output& output) = 0;

  // Something has happened that the connection's owner must ask for.
  virtual bool has_events() const { return false; }

  // The transport can not take more: nothing is handed out until Resume.
  virtual void Pause() = 0;
  virtual void Resume() = 0;

  static constexpr size_t kWriteLimit = size_t{4} << 20;

 private:
  friend class Mailbox;
  const uint64_t id_;
  bool marked_ = false;
};

using ReadBuffer = std::vector<uint8_t>;

// An answer on its way to its connection.
class Delivery {
 public:
  virtual ~Delivery() = default;
  // Hands the answer to its connection. Loop thread.
  virtual void Deliver() = 0;
};

struct Written {
  uint64_t connection_id;
  Output output;
  bool close;
  bool has_events;
};

class Mailbox final : public ExpiryListener, public std::enable_shared_from_this<Mailbox> {
 public:
  explicit Mailbox(std::shared_ptr<RequestAcceptor> acceptor) : acceptor_(std::move(acceptor)) {}

  RequestAcceptor& acceptor() { return *acceptor_; }
  int fd() const { return queue_.fd(); }

  // Any thread. The event loop is woken once for a burst.
  void Post(std::shared_ptr<Delivery> delivery) { queue_.Post(std::move(delivery)); }

  // Wakes the event loop, so that it asks for NextFlush() again. Any thread.
  void OnEarlierExpiry() noexcept override;

  // `connection` has something to write or is to be closed.
  void MarkReady(Connection& connection);

  // Calls `expire` at the first Flush at or after `when`, unless it was removed before.
  using Timer = std::multimap<TimeNs, std::function<void()>>::iterator;
  Timer AddTimer(TimeNs when, std::function<void()> expire) { return timers_.emplace(when, std::move(expire)); }
  void RemoveTimer(Timer timer) { timers_.erase(timer); }
  // When Flush must be called although nothing happens: 1 (at once) where a connection has more to write than one Flush
  // hands out, otherwise when the next timer is due or a request's time in a queue is over; 0 for never.
  TimeNs NextFlush() const;

  // Dispatches submitted requests, delivers answers, and returns those of the marked connections that have something to
  // write or to tell. `rung`: the acceptor's doorbell was heard.
  std::vector<Written> Flush(bool rung = false);

  // Bytes of streamed answers that clients have not taken, over all connections that keep count of them.
  size_t untaken = 0;
  // What one connection may leave of `most` bytes: a `part`th of what is left of `of_all`, but a 64th of `most` always.
  size_t MayLeave(size_t of_all, size_t part, size_t most) const {
    return std::clamp((of_all - std::min(of_all, untaken)) / part, most / 64, most);
  }

  // Memory that transports read into, one connection at a time: what is read is understood before anything else is.
  ReadBuffer& read_buffer() { return read_buffer_; }

  void Close() { queue_.Close(); }

 private:
  void RunTimers();

  std::shared_ptr<RequestAcceptor> acceptor_;
  MailQueue<std::shared_ptr<Delivery>> queue_;
  std::vector<std::weak_ptr<Connection>> ready_;
  std::multimap<TimeNs, std::function<void()>> timers_;
  ReadBuffer read_buffer_ = ReadBuffer(256 << 10);
};

}  // namespace pyinfer
