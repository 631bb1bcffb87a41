// SPDX-License-Identifier: Apache-2.0
// http_generate.h - answers of the generate extension: one JSON object, or an event for each response as it is made.
//
// An error that comes before the model has begun is an answer like those of other requests. After that every error is
// a response of the model, and Triton's status for it is 400: `generate` says so where it is the only response,
// `generate_stream` where it is the first. Of a model that is not decoupled both take the one response it has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "infer/completion.h"
#include "protocol/connection.h"
#include "protocol/http_host.h"
#include "protocol/http_place.h"

namespace pyinfer {

// `generate`: answers once the model is done, and with an error unless that made exactly one response.
class GenerateAnswer final : public CompletionSink,
                             public Delivery,
                             public std::enable_shared_from_this<GenerateAnswer> {
 public:
  GenerateAnswer(std::shared_ptr<HttpHost> host, uint64_t place, bool keep_alive);

  void Send(const Request& request, Response response, bool final) noexcept override;
  bool cancelled() const noexcept override { return host_->closed(); }
  void Deliver() override;

 private:
  const std::shared_ptr<HttpHost> host_;
  const uint64_t place_;
  const bool keep_alive_;
  size_t responses_ = 0;
  Output answer_;  // with the first response, until there are more
  int status_ = 200;
  std::shared_ptr<Trace> trace_;
};

// `generate_stream`: server-sent events. Nothing slows a model down whose client does not read; once so many bytes are
// kept for it that it may have no more, the answer ends, with an event that says so.
class GenerateStream final : public CompletionSink,
                             public Delivery,
                             public std::enable_shared_from_this<GenerateStream> {
 public:
  // `chunked`: the client knows how to read chunks; otherwise the answer ends with the connection.
  GenerateStream(std::shared_ptr<HttpHost> host, uint64_t place, bool chunked, bool keep_alive);

  // To be set where nobody waits for the events any more.
  const CancelFlag& cancel_flag() const { return cancelled_; }

  void Send(const Request& request, Response response, bool final) noexcept override;
  bool cancelled() const noexcept override { return cancelled_->load(std::memory_order_relaxed) || host_->closed(); }
  void Deliver() override;

 private:
  struct Part {
    Output bytes;
    bool final = false;
    bool whole = false;  // the answer to a request that was not executed
    bool cut = false;    // there is no memory for what should have been said
    std::shared_ptr<Trace> trace;
  };

  Part Write(const Request& request, const Response& response, bool final);
  void AppendEvent(Output& output, std::string json) const;
  void AppendEnd(Output& output) const;
  void BreakOff();

  const std::shared_ptr<HttpHost> host_;
  const uint64_t place_;
  const bool chunked_;
  const bool keep_alive_;
  const CancelFlag cancelled_ = std::make_shared<std::atomic<bool>>(false);
  bool begun_ = false;     // the head is written
  bool streamed_ = false;  // it was given to the host
  std::mutex mutex_;
  std::vector<Part> parts_;
  bool posted_ = false;
};

}  // namespace pyinfer
