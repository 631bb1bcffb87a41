// SPDX-License-Identifier: Apache-2.0
// doorbell.h - what another process rings to wake an event loop of this one.
//
// A pipe: the end that rings is another open file than the end that is watched, so that who rings can neither take a
// ring away nor have the event loop block. A ring says only that there is something to look at.
#pragma once

#include <atomic>

namespace pyinfer {

// Any thread.
class Doorbell {
 public:
  // Throws std::system_error where no descriptors are left.
  Doorbell();
  ~Doorbell();
  Doorbell(const Doorbell&) = delete;
  Doorbell& operator=(const Doorbell&) = delete;

  // Readable while it has rung since it was last lowered.
  int fd() const { return fd_; }
  // To be handed to the processes that ring.
  int ringing_fd() const { return ringing_fd_; }
  // To be called before what it rang for is looked at.
  void Lower();

  // Event loops that watch fd(): where there are none, nobody hears.
  void Attend() { attending_.fetch_add(1, std::memory_order_relaxed); }
  void Leave() { attending_.fetch_sub(1, std::memory_order_relaxed); }
  bool attended() const { return attending_.load(std::memory_order_relaxed) != 0; }

 private:
  int fd_;
  int ringing_fd_;
  std::atomic<int> attending_{0};
};

// The other process' end; nothing happens where it has none.
class DoorbellRinger {
 public:
  // Takes `fd` over; -1: none. Moves it to a high number: a model that closes descriptors which it did not open could
  // have the number given to a file of its own, which would be written to.
  explicit DoorbellRinger(int fd = -1);
  ~DoorbellRinger();
  DoorbellRinger(const DoorbellRinger&) = delete;
  DoorbellRinger& operator=(const DoorbellRinger&) = delete;

  void Ring() const;

 private:
  int fd_;
};

}  // namespace pyinfer
