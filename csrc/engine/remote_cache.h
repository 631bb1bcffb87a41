// SPDX-License-Identifier: Apache-2.0
// remote_cache.h - a response cache that is asked over a network, by a client that lives elsewhere.
//
// A lookup is a question that is handed on and answered later: no thread waits for it, and it is a miss when `patience`
// is over. While the cache is not reachable, or too much is underway, nobody is asked: a miss at once. So whatever the
// cache does, it costs a request no more than its patience, and no error.
//
// Who has the connection takes jobs, answers the lookups among them, and says whether the cache can be reached. One
// whose patience was not enough makes the cache unreachable, until the client says otherwise.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "engine/response_cache.h"

namespace pyinfer {

class RemoteCache final : public ResponseCache {
 public:
  struct Limits {
    TimeNs patience = 100'000'000;
    size_t most_lookups = 4096;                   // that wait for an answer
    size_t most_entry_bytes = size_t{8} << 20;    // larger answers are not kept
    size_t most_queued_bytes = size_t{64} << 20;  // of answers that are to be kept, and their keys
  };
  // Look a key up, or keep a value under it.
  struct Job {
    uint64_t id = 0;
    std::string key;
    std::optional<std::string> value;
  };

  explicit RemoteCache(const Limits& limits);
  ~RemoteCache() override;

  bool remote() const override { return true; }
  std::optional<Response> Find(const std::string&) override { return std::nullopt; }
  bool Ask(const std::string& key, Found found) override;
  void Insert(std::string key, const Response& response) override;

  // For the client; any thread. What is to be done, at most `most` at a time, in order; waits for it no longer than
  // `timeout`. Lookups whose time is over are not among it.
  std::vector<Job> Take(std::chrono::nanoseconds timeout, size_t most);
  // The bytes under the key of a lookup, or that there are none. They may be anything: what is no response is a miss.
  // Nothing happens where its time was over.
  void Answer(uint64_t id, const std::optional<Slice>& bytes);
  // Where it can not be reached, what waits is a miss.
  void SetReachable(bool reachable);
  bool reachable() const;
  // What waits is a miss, and nobody is asked any more. Idempotent; not from what is told that it missed.
  void Close();
  bool closed() const;

 private:
  struct Lookup {
    TimeNs until = 0;
    Found found;
  };
  using Lookups = std::map<uint64_t, Lookup>;

  // Watches over the patience of lookups.
  void Watch();
  // Ends what waits. Requires: the lock is held; what is returned is told that it missed, without the lock.
  Lookups GiveUpLocked();
  static void Miss(Lookups& lookups);

  const Limits limits_;
  const SystemClock clock_;  // patience is with a network, whatever the clock of the models is
  mutable std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable waiting_;
  std::deque<Job> jobs_;
  size_t queued_bytes_ = 0;
  Lookups lookups_;  // by id, which is the order of their ends
  uint64_t ids_ = 0;
  bool reachable_ = true;
  bool closed_ = false;
  std::once_flag joined_;
  std::thread watch_;
};

}  // namespace pyinfer
