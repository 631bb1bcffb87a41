// SPDX-License-Identifier: Apache-2.0
#include "engine/tracer.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <optional>
#include <random>
#include <utility>

namespace pyinfer {
namespace {

void PutBytes(uint8_t* bytes, uint64_t value) {
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(value >> (8 * i));
}

uint64_t Seed() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

}  // namespace

Tracer::Tracer(std::shared_ptr<const Clock> clock, TraceQueue::Limits limits)
    : clock_(std::move(clock)),
      queue_(std::make_shared<TraceQueue>(limits)),
      random_(Seed()),
      global_(std::make_shared<TraceSetting>(TraceOptions(), queue_)) {}

void Tracer::Set(const std::string& model, const TraceOptions& options) {
  auto setting = std::make_shared<TraceSetting>(options, queue_);
  {
    std::unique_lock<std::shared_mutex> lock(mutex_);
    std::swap(model.empty() ? global_ : models_[model], setting);
    NoteEnabledLocked();
  }
  // What the consumer has kept for the old setting can be written.
  setting.reset();
  queue_->Poke();
}

void Tracer::Clear(const std::string& model) {
  {
    std::unique_lock<std::shared_mutex> lock(mutex_);
    models_.erase(model);
    NoteEnabledLocked();
  }
  queue_->Poke();
}

void Tracer::NoteEnabledLocked() {
  const auto traces = [](const auto& setting) { return setting->options().levels != 0; };
  const bool any = traces(global_) ||
                   std::any_of(models_.begin(), models_.end(), [&](const auto& item) { return traces(item.second); });
  enabled_.store(any, std::memory_order_relaxed);
}

std::shared_ptr<TraceSetting> Tracer::Find(const std::string& model) const {
  std::shared_lock<std::shared_mutex> lock(mutex_);
  const auto found = models_.find(model);
  return found == models_.end() ? global_ : found->second;
}

TraceOptions Tracer::Get(const std::string& model) const {
  const std::shared_ptr<TraceSetting> setting = Find(model);
  TraceOptions options = setting->options();
  options.count = setting->left();
  return options;
}

void Tracer::Begin(Request& request) noexcept try {
  std::shared_ptr<TraceSetting> setting = Find(request.model->name);
  std::optional<TraceParent> parent;
  if (spans_ && request.trace_context) parent = ParseTraceParent(request.trace_context->parent);
  if (!setting->Sample(/*forced=*/parent.has_value())) return;
  TraceRecord record;
  record.levels = setting->options().levels;
  if (spans_) NameSpans(request, record.spans, parent ? &*parent : nullptr);
  Attach(request, std::move(record), std::move(setting));
} catch (const std::exception&) {
  // No memory: it goes on without a trace.
  queue_->CountDropped(1);
}

void Tracer::BeginStep(Request& request, const Trace& parent) noexcept try {
  TraceRecord record;
  record.parent_id = parent.id();
  record.levels = parent.levels();
  if (spans_) {
    record.spans.trace = parent.spans().trace;
    record.spans.parent = parent.spans().model;
    record.spans.state = parent.spans().state;
    for (SpanId* span : {&record.spans.root, &record.spans.model, &record.spans.compute}) {
      PutBytes(span->data(), RandomId());
    }
  }
  Attach(request, std::move(record), parent.collector());
} catch (const std::exception&) {
  queue_->CountDropped(1);
}

void Tracer::Attach(Request& request, TraceRecord record, std::shared_ptr<TraceCollector> collector) {
  request.timeline.started = clock_->Now();
  record.id = last_id_.fetch_add(1, std::memory_order_relaxed) + 1;
  record.ensemble = request.model->ensemble.has_value();
  record.model_name = request.model->name;
  record.model_version = request.model->version;
  record.request_id = request.id;
  record.transport = request.transport;
  if ((record.levels & kTraceTensors) != 0) {
    // The executor may write to its inputs.
    const auto data = request.uses_shared_memory ? TraceRecord::Data::kLeaveOut : TraceRecord::Data::kCopy;
    for (const Tensor& input : request.inputs) record.Add(/*output=*/false, input, data);
  }
  request.trace = std::make_shared<Trace>(std::move(record), std::move(collector), clock_);
}

void Tracer::NameSpans(const Request& request, TraceSpans& spans, const TraceParent* parent) {
  if (parent != nullptr) {
    spans.trace = parent->trace;
    spans.parent = parent->span;
    spans.state = request.trace_context->state;
  } else {
    PutBytes(spans.trace.data(), RandomId());
    PutBytes(spans.trace.data() + 8, RandomId());
  }
  for (SpanId* span : {&spans.root, &spans.model, &spans.compute}) PutBytes(span->data(), RandomId());
}

// SplitMix64 over a counter with a random start: no two ids of a process are alike. Source: Steele, Lea and Flood,
// "Fast splittable pseudorandom number generators" (2014).
uint64_t Tracer::RandomId() {
  uint64_t z = random_.fetch_add(0x9e3779b97f4a7c15, std::memory_order_relaxed);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  z ^= z >> 31;
  return z != 0 ? z : 1;
}

}  // namespace pyinfer
