// SPDX-License-Identifier: Apache-2.0
#include "infer/trace.h"

#include <exception>
#include <utility>

#include "infer/request.h"
#include "infer/response.h"

namespace pyinfer {

void TraceRecord::Add(bool output, const Tensor& tensor, Data data) {
  TracedTensor traced{output, data != Data::kLeaveOut && tensor_bytes + tensor.data.size() <= kMaxTensorBytes, tensor};
  if (!traced.complete) {
    traced.tensor.data = Slice();
  } else if (data == Data::kCopy) {
    traced.tensor.data = Slice::Copy(tensor.data.data(), tensor.data.size());
  }
  tensor_bytes += traced.tensor.data.size();
  tensors.push_back(std::move(traced));
}

size_t TraceRecord::size() const {
  return sizeof(*this) + model_name.size() + request_id.size() + spans.state.size() + tensor_bytes +
         tensors.size() * sizeof(TracedTensor) + sends.size() * sizeof(TracedSend);
}

std::optional<TraceContext> Trace::Context() const {
  const TraceSpans& spans = record_.spans;
  if (spans.trace == TraceId{}) return std::nullopt;
  return TraceContext{TraceParentText(spans.trace, spans.model), spans.state};
}

void Trace::OnResponse(const Request& request, const Response& response, bool final) noexcept try {
  const TimeNs now = clock_->Now();
  std::lock_guard<std::mutex> lock(mutex_);
  if ((record_.levels & kTraceTensors) != 0) {
    // The next step may write to what one step has made.
    const auto data = request.uses_shared_memory ? TraceRecord::Data::kLeaveOut
                      : record_.parent_id != 0   ? TraceRecord::Data::kCopy
                                                 : TraceRecord::Data::kShare;
    for (const Tensor& output : response.outputs) record_.Add(/*output=*/true, output, data);
  }
  if (!final) return;  // its times are still written
  record_.timeline = request.timeline;
  record_.timeline.answered = now;
  record_.status = response.status;
} catch (const std::exception&) {
  // No memory: the trace says less than it could.
}

void Trace::BeginSend() noexcept try {
  const TimeNs now = clock_->Now();
  std::lock_guard<std::mutex> lock(mutex_);
  if (record_.sends.size() < TraceRecord::kMaxSends) record_.sends.push_back({now, 0});
} catch (const std::exception&) {
}

void Trace::EndSend() noexcept {
  const TimeNs now = clock_->Now();
  std::lock_guard<std::mutex> lock(mutex_);
  if (ended_ < record_.sends.size()) record_.sends[ended_++].ended = now;
}

}  // namespace pyinfer
