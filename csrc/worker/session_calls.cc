// SPDX-License-Identifier: Apache-2.0
// session_calls.cc - on whose behalf a worker makes its calls: it names requests by number, and only what the session
// knows of them counts.
#include "worker/session.h"

namespace pyinfer {

CallOrigin WorkerSession::OriginOf(const CallTerms& terms, TimeNs now) {
  std::lock_guard<std::mutex> lock(mutex_);
  CallOrigin origin;
  const auto request_of = [&](uint64_t number) -> const Request* {
    if (batch_ == nullptr || number < first_ || number - first_ >= batch_->size()) return nullptr;
    return batch_->detached(number - first_) ? nullptr : &batch_->request(number - first_);
  };
  if (const Request* request = request_of(terms.trace)) {
    origin.trace = request->trace;
  } else if (const auto late = late_.find(terms.trace); late != late_.end()) {
    origin.trace = late->second.trace;
  }
  for (const uint64_t number : terms.parents) {
    if (const Request* request = request_of(number)) {
      origin.AddParent(*request, now);
    } else if (const auto late = late_.find(number); late != late_.end()) {
      origin.AddParent(late->second.parent, now);
    }
  }
  if (!terms.by_instance || batch_ == nullptr) return origin;
  origin.model = executor_.model;
  origin.instance = executor_.instance;
  return origin;
}

}  // namespace pyinfer
