// SPDX-License-Identifier: Apache-2.0
// call_message.h - the calls of a worker process' model, and what comes back, as bytes and back.
//
//   worker -> server   kCall; kCancel: nobody waits for what is still to come
//   server -> worker   kResponse: to any call, each call's in order
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "worker/pieces.h"

namespace pyinfer {

// What a call is beside its request. Requests of batches are known by the numbers that the server gave them.
struct CallTerms {
  uint64_t number = 0;  // the worker's; never used twice
  bool decoupled = false;
  bool by_instance = false;       // the instance waits for it, with the batch that it executes
  std::vector<uint64_t> parents;  // of that batch: on whose behalf it is made
  uint64_t trace = 0;             // the request whose trace it belongs to; 0: none
};

struct WorkerCall {
  CallTerms terms;
  RequestPtr request;
};

struct CallResponse {
  uint64_t number = 0;
  bool final = false;
  Response response;
};

void WriteCall(MessageWriter& writer, const CallTerms& terms, const Request& request);
void WriteCancel(MessageWriter& writer, uint64_t number);
void WriteCallResponse(MessageWriter& writer, uint64_t number, const Response& response, bool final);

// In the server, which trusts nothing. Large tensors of fixed size may lie in the message, as in ReadAnswers.
// `make_sink` is told the number of the call.
using CallSinkMaker = std::function<std::shared_ptr<CompletionSink>(uint64_t number)>;
StatusOr<WorkerCall> ReadCall(const Slice& message, const CallSinkMaker& make_sink);
StatusOr<uint64_t> ReadCancel(const Slice& message);
// In the worker; tensors lie in the message.
StatusOr<CallResponse> ReadCallResponse(const Slice& message);

}  // namespace pyinfer
