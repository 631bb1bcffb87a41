// SPDX-License-Identifier: Apache-2.0
// response_cache.h - answers that were given before, for requests that ask the same.
//
// A key holds all that an answer may depend on, whole and not as a hash: two requests with one key have one answer.
// Source of the rules: Triton's response cache.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "infer/request.h"
#include "infer/response.h"

namespace pyinfer {

// `origin` tells a model that is loaded again from what it was before. Beside it: model and version, inputs with data
// type, shape and bytes, the outputs that were asked for, sequence and custom parameters. Nothing for a request whose
// answer is not to be kept: one that uses a client's shared memory, which may change meanwhile.
std::optional<std::string> CacheKey(const Request& request, std::string_view origin);

// What a cache of any kind does. Any thread; nothing here waits for anything.
class ResponseCache {
 public:
  using Found = std::function<void(std::optional<Response>)>;

  virtual ~ResponseCache() = default;
  // Whether it is outside of this process, and so shared with others: then it is asked by Ask.
  virtual bool remote() const { return false; }
  // The answer that was kept for `key`; its outputs share the memory of the cache.
  virtual std::optional<Response> Find(const std::string& key) = 0;
  // Tells `found` later, once, from some thread and without locks held, what was kept for `key`. What it tells comes
  // from outside: it may be no answer to what was asked. False, and nothing is told, where nobody can be asked.
  virtual bool Ask(const std::string& /*key*/, Found /*found*/) { return false; }
  // Keeps a copy of `response`, if there is room for it. Requires: it is no error.
  virtual void Insert(std::string key, const Response& response) = 0;
};

// Keeps answers in the memory of the server, up to a number of bytes; those go first that were not asked for longest.
class LocalCache final : public ResponseCache {
 public:
  explicit LocalCache(size_t most_bytes) : most_bytes_(most_bytes) {}

  std::optional<Response> Find(const std::string& key) override;
  void Insert(std::string key, const Response& response) override;

  // Bytes that count against the limit, and answers kept.
  size_t bytes() const;
  size_t size() const;

 private:
  struct Entry {
    std::string key;
    Response response;
    size_t bytes = 0;
  };
  using Entries = std::list<Entry>;

  const size_t most_bytes_;
  mutable std::mutex mutex_;
  Entries entries_;  // the latest first
  std::unordered_map<std::string_view, Entries::iterator> by_key_;
  size_t bytes_ = 0;
};

}  // namespace pyinfer
