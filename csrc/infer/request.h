// SPDX-License-Identifier: Apache-2.0
// request.h - one inference request, and the promise that it is answered exactly once.
//
// A protocol makes a Request with a sink and hands it to the engine; from there it has one owner at a time. Answer()
// may be called once, by the owner; it ends the request. Where the model is decoupled, Send() may be called before it,
// for each response that more may follow. A request that is destroyed unanswered answers itself with an internal error:
// no path through the scheduler can lose one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "infer/completion.h"
#include "infer/model_spec.h"
#include "infer/parameters.h"
#include "infer/tensor.h"
#include "infer/timeline.h"
#include "infer/trace.h"
#include "memory/recycler.h"
#include "memory/shm_registry.h"

namespace pyinfer {

// Why a request failed, as the failure metric counts it.
enum class FailureReason { kRejected, kCancelled, kBackend, kOther };
inline constexpr size_t kFailureReasons = 4;

// What became of one response of a decoupled model, and when.
struct ResponseReport {
  enum class Kind { kSuccess, kFail, kEmpty, kCancelled };  // kEmpty: it only ended the request

  Kind kind = Kind::kSuccess;
  size_t index = 0;    // of the request's responses
  TimeNs begun = 0;    // the response before it was done, or the request was handed to the executor
  TimeNs given = 0;    // the executor handed it over
  TimeNs checked = 0;  // it was ready to be sent
};

// Told of the end of each request that it accepted; keeps counts. Called before the sink, so that a client that has its
// answer finds it counted.
class RequestObserver {
 public:
  virtual ~RequestObserver() = default;
  // One response of a decoupled model, the last one included; called before it is sent.
  virtual void OnResponse(const Request& request, const ResponseReport& report) noexcept = 0;
  virtual void OnAnswer(const Request& request, const Response& response) noexcept = 0;
};

// Keeps answers back until those before them have left; see infer/answer_order.h.
class AnswerOrder;

// What the response cache had to do with a request.
enum class CacheUse { kNone, kMiss, kHit };

// Which sequence of requests a request belongs to: a number or a text; neither (0, "") means none.
struct CorrelationId {
  uint64_t number = 0;
  std::string text;

  bool none() const { return number == 0 && text.empty(); }
};

// The flags of a request, with the values that Triton's backends see.
inline constexpr uint32_t kSequenceStart = 1;
inline constexpr uint32_t kSequenceEnd = 2;

// How long a request is along each axis of its model's padding, and how long it is made; -1 where it has no input along
// one.
struct PaddedLengths {
  std::vector<int64_t> own;
  std::vector<int64_t> padded;
};

struct RequestedOutput {
  std::string name;
  uint64_t classification = 0;        // not 0: the client wants the top classes, so many, instead of the tensor
  SharedMemoryPart destination = {};  // where the tensor is to be put instead of the answer
};

class Request {
 public:
  explicit Request(std::shared_ptr<CompletionSink> sink) : sink_(std::move(sink)) {}
  ~Request() {
    if (sink_) Answer(Response::Error(Status::Internal("the request was dropped without an answer")));
  }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  static void* operator new(size_t size) { return Recycler::Allocate(size); }
  static void operator delete(void* request, size_t size) { Recycler::Free(request, size); }

  // What the client asked for; written by the protocol.
  Transport transport = Transport::kNone;
  std::string model_name;
  int64_t model_version = -1;  // -1: the latest
  std::string id;
  std::vector<Tensor> inputs;
  std::vector<RequestedOutput> requested_outputs;  // empty: all of the model's
  Parameters parameters;                           // custom ones only
  CorrelationId correlation_id;
  uint32_t flags = 0;                           // kSequenceStart, kSequenceEnd
  uint64_t priority = 0;                        // 1 is the highest; 0: the model's default
  uint64_t timeout_us = 0;                      // in the queue; 0: the model's default
  bool wants_empty_final_response = false;      // of a decoupled model, over a stream
  bool more_follow = false;                     // it is to be queued with others: no batch begins before Dispatch()
  bool slow_to_answer = false;                  // by much more than its outputs: compressed, or one part of the answer
  std::unique_ptr<TraceContext> trace_context;  // null where the client sent none

  // Shared memory that the request reads or writes; held until it is answered. `regions` is where names are looked up;
  // set by the protocol before it reads the rest, and not owned.
  const SharedMemoryRegistry* regions = nullptr;
  bool uses_shared_memory = false;
  std::vector<SharedMemoryRegionPtr> input_regions;

  // Found out on the way; written by the engine and the scheduler.
  std::shared_ptr<const ModelSpec> model;         // set before validation
  std::shared_ptr<RequestObserver> observer;      // set on acceptance
  int64_t batch_size = 1;                         // rows; 1 where the model has no batch dimension
  std::unique_ptr<PaddedLengths> padding;         // null where the model has none
  FailureReason failure = FailureReason::kOther;  // what to count if the answer is an error
  Timeline timeline;
  TimeNs queue_deadline = 0;           // when its time in the queue is over; 0: never
  std::shared_ptr<Trace> trace;        // null where it is not traced; a sink that is handed a response may keep it
  std::shared_ptr<AnswerOrder> order;  // null where answers need not leave in order
  uint64_t turn = 0;                   // in `order`
  CacheUse cache_use = CacheUse::kNone;
  TimeNs cache_ns = 0;      // spent on looking it up
  uint32_t call_depth = 0;  // models that have called each other until one made this request; 0: it is a client's

  bool answered() const { return sink_ == nullptr; }
  bool cancelled() const noexcept { return sink_ && sink_->cancelled(); }
  // For who wants to know of a cancellation after the request has gone to another owner.
  std::weak_ptr<const CompletionSink> sink() const { return sink_; }

  // One response of several. Requires: not answered(), and the model is decoupled. Reads no flags, inputs or times.
  void Send(Response response) noexcept;
  // The only or last response. Requires: not answered().
  void Answer(Response response) noexcept;
  void Fail(FailureReason reason, Status status) noexcept {
    failure = reason;
    Answer(Response::Error(std::move(status)));
  }

 private:
  std::shared_ptr<CompletionSink> sink_;
};

using RequestPtr = std::unique_ptr<Request>;

// Answers `request`, in its turn where there is an order: at the latest when the answers before it have left.
void Conclude(RequestPtr request, Response response) noexcept;

}  // namespace pyinfer
