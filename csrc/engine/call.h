// SPDX-License-Identifier: Apache-2.0
// call.h - a call to a model as whoever waits for what comes back sees it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "base/mailbox.h"
#include "infer/response.h"

namespace pyinfer {

// Calls of one event loop that have something to take.
using CallMailbox = MailQueue<uint64_t>;

// Any thread.
class Call {
 public:
  struct Item {
    Response response;
    bool final = false;
  };

  Call() = default;
  virtual ~Call() = default;
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // The next response; waits for it. Nothing once the last one was taken.
  virtual std::optional<Item> Next();
  // The same, but does not wait: nothing as well where there is none yet.
  std::optional<Item> Poll();
  // Whether Next would not wait.
  bool has_news() const;
  // Whether the last response is there, or was taken.
  bool ended() const;
  // Posts `number` to `mailbox` when the last response is there, at once where it is.
  virtual void Notify(std::shared_ptr<CallMailbox> mailbox, uint64_t number);
  // Nobody waits for what is still to come.
  virtual void Cancel() = 0;

  // By whoever brings the responses, in order.
  void Put(Item item);

 private:
  std::optional<Item> TakeLocked();

  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Item> items_;
  bool final_ = false;  // the last one is there, or was taken
  std::shared_ptr<CallMailbox> mailbox_;
  uint64_t number_ = 0;
};

}  // namespace pyinfer
