// SPDX-License-Identifier: Apache-2.0
// answer_order.h - answers leave in the order in which their requests came.
//
// Each request takes a turn when it is accepted. An answer waits here until all turns before it are over: answered, or
// skipped because the request was answered out of turn (cancelled, expired). Of several responses all wait; while it is
// a request's turn, each leaves as it comes. A request that is executed several times keeps its turn until its last
// response. Any thread; whoever calls owns a share.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <set>

#include "infer/request.h"

namespace pyinfer {

class AnswerOrder {
 public:
  // The turn of one more request.
  uint64_t Take();

  // Sends one of several responses, or keeps it back. Requires: request.order is this, and the request is Delivered or
  // Abandoned in the end. Meanwhile nobody writes to what Request::Send reads.
  void Send(Request& request, Response response) noexcept;
  // Answers `request` and all that waited for it, or keeps it back. Requires: request->order is this.
  void Deliver(RequestPtr request, Response response) noexcept;
  // Answers `request` out of turn, and at once: behind a response of it that just leaves, without those that are kept
  // back. Requires: request->order is this.
  void Abandon(RequestPtr request, Response response) noexcept;
  // `turn`, of which nothing is kept back, is over; answers what waited for it.
  void Skip(uint64_t turn) noexcept;

  // Turns of which something is kept back.
  size_t size() const;

 private:
  // What is kept back of one turn.
  struct Turn {
    Request* request = nullptr;
    std::deque<Response> responses;  // before the last
    RequestPtr answered;             // null until there is the last
    Response last;
  };

  // Answers what is due, one thread at a time: whoever comes meanwhile leaves it to that one.
  void DeliverDue(std::unique_lock<std::mutex>& lock) noexcept;

  mutable std::mutex mutex_;
  uint64_t taken_ = 0;  // turns given out
  uint64_t next_ = 0;   // the first turn that is not over
  std::map<uint64_t, Turn> held_;
  std::set<uint64_t> skipped_;
  bool delivering_ = false;
  bool sending_ = false;  // whoever delivers has let go of the lock, for a response of the turn next_
};

}  // namespace pyinfer
