// SPDX-License-Identifier: Apache-2.0
// trace.h - the record of one traced request, filled in by each stage that the request passes.
//
// A request that was sampled owns a Trace together with the sink that takes its responses: the sink keeps it until the
// last of them is sent. When the last owner lets go, whatever became of the request, the record goes to the collector.
// All methods may be called from any thread; none blocks for longer than another of them takes.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "infer/tensor.h"
#include "infer/timeline.h"
#include "infer/trace_context.h"

namespace pyinfer {

class Request;
struct Response;

// What is traced; the values of Triton's API.
inline constexpr uint32_t kTraceTimestamps = 1u << 2;
inline constexpr uint32_t kTraceTensors = 1u << 3;

// Which protocol a request came by.
enum class Transport { kNone, kHttp, kGrpc };

// The spans of a trace that OpenTelemetry sees: InferRequest, in it the model's, in it compute's.
struct TraceSpans {
  TraceId trace{};
  SpanId parent{};  // of the client; all zero where there is none
  SpanId root{};
  SpanId model{};
  SpanId compute{};
  std::string state;  // the client's tracestate
};

struct TracedTensor {
  bool output = false;
  bool complete = true;  // false: its data was not kept
  Tensor tensor;
};

// One response on its way to the client.
struct TracedSend {
  TimeNs begun = 0;
  TimeNs ended = 0;  // 0: it was never sent in full
};

struct TraceRecord {
  // Bytes of tensors that one record keeps, and responses whose sending is noted.
  static constexpr size_t kMaxTensorBytes = size_t{16} << 20;
  static constexpr size_t kMaxSends = 1024;

  uint64_t id = 0;
  uint64_t parent_id = 0;  // the trace of the ensemble's request, of which this is a step; 0: it is no step
  uint32_t levels = 0;
  bool ensemble = false;  // what its model computes is in the traces of the steps
  std::string model_name;
  int64_t model_version = 0;
  std::string request_id;
  Transport transport = Transport::kNone;
  Timeline timeline;
  std::vector<TracedTensor> tensors;
  size_t tensor_bytes = 0;
  std::vector<TracedSend> sends;
  Status status;  // of the last response
  TraceSpans spans;

  // Keeps a tensor, and its data as they are now where there is room. kCopy: somebody may still write to them.
  // kLeaveOut: they are in memory of the client, which may go at any time.
  enum class Data { kShare, kCopy, kLeaveOut };
  void Add(bool output, const Tensor& tensor, Data data);
  // Memory that it takes, about.
  size_t size() const;
};

// Takes finished records. Any thread; must not block.
class TraceCollector {
 public:
  virtual ~TraceCollector() = default;
  virtual void Collect(TraceRecord record) noexcept = 0;
};

class Trace {
 public:
  // `begun` says what is known when the request is accepted.
  Trace(TraceRecord begun, std::shared_ptr<TraceCollector> collector, std::shared_ptr<const Clock> clock)
      : record_(std::move(begun)), collector_(std::move(collector)), clock_(std::move(clock)) {}
  ~Trace() { collector_->Collect(std::move(record_)); }
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  // The `traceparent` and `tracestate` of what is done for the request by its model; nothing where no spans are made.
  std::optional<TraceContext> Context() const;
  // What a trace of a step of this request takes over; none of it changes.
  uint64_t id() const { return record_.id; }
  uint32_t levels() const { return record_.levels; }
  const TraceSpans& spans() const { return record_.spans; }
  const std::shared_ptr<TraceCollector>& collector() const { return collector_; }

  // The owner of the request hands a response to its sink.
  void OnResponse(const Request& request, const Response& response, bool final) noexcept;
  // The protocol writes a response; it has been handed to the transport in full.
  void BeginSend() noexcept;
  void EndSend() noexcept;

 private:
  std::mutex mutex_;
  TraceRecord record_;
  size_t ended_ = 0;  // of record_.sends; they end in the order in which they began
  const std::shared_ptr<TraceCollector> collector_;
  const std::shared_ptr<const Clock> clock_;
};

}  // namespace pyinfer
