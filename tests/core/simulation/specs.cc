// SPDX-License-Identifier: Apache-2.0
#include "specs.h"

#include <algorithm>
#include <sstream>

#include "../scheduling.h"

namespace pyinfer::simulation {
namespace {

QueuePolicy DrawPolicy(Random& random) {
  QueuePolicy policy;
  if (random.Chance(40)) policy.timeout_action = QueuePolicy::TimeoutAction::kDelay;
  policy.default_timeout_ns = random.Of<int64_t>({0, 3, 10, 40}) * kUs;
  policy.allow_timeout_override = random.Chance(50);
  policy.max_queue_size = random.Of<size_t>({0, 0, 1, 3, 8});
  return policy;
}

void DrawQueue(Random& random, QueueOptions& queue) {
  queue.priority_levels = random.Of<uint64_t>({0, 0, 2, 4});
  if (queue.priority_levels != 0) queue.default_priority_level = 1 + random.Below(queue.priority_levels);
  if (random.Chance(70)) queue.default_policy = DrawPolicy(random);
  for (uint64_t level = 1; level <= queue.priority_levels; ++level) {
    if (random.Chance(40)) queue.policies[level] = DrawPolicy(random);
  }
}

SequenceOptions DrawSequence(Random& random, BatchOptions& batching) {
  using Kind = SequenceControl::Kind;
  const auto element = [](int32_t value) { return Slice::Copy(&value, sizeof(value)); };
  SequenceOptions options;
  options.max_idle_ns = random.Of<int64_t>({5, 20, 60}) * kUs;
  options.controls = {{Kind::kStart, "START", DType::kInt32, element(0), element(1)},
                      {Kind::kReady, "READY", DType::kInt32, element(0), element(1)},
                      {Kind::kEnd, "END", DType::kInt32, element(0), element(1)},
                      {Kind::kCorrelationId, "CORRID", DType::kUint64, {}, {}}};
  if (random.Chance(50)) {
    options.slots = static_cast<size_t>(std::max<int64_t>(1, batching.max_batch_size));
    options.minimum_slot_utilization = random.Of({0.0, 0.0, 0.5, 1.0});
    batching.dynamic = batching.max_batch_size > 0;
    batching.preferred_batch_sizes = {};
    batching.max_queue_delay_ns = random.Of<int64_t>({0, 3, 20}) * kUs;
  } else {
    options.strategy = SequenceOptions::Strategy::kOldest;
    options.slots = random.Of<size_t>({1, 2, 3, 6});
  }
  options.iterative = random.Chance(25);
  if (!options.iterative && random.Chance(40)) {
    options.states = {{"STATE", "NEXT", DType::kInt32, {1}, {1}, element(kInitialState)}};
  }
  return options;
}

// Widths up to 8, of the inputs and of what is computed of them.
PaddingOptions DrawPadding(Random& random) {
  PaddingOptions padding;
  PaddingOptions::Axis width;
  width.name = "width";
  width.buckets = random.Chance(70) ? std::vector<int64_t>{2, 4, 8} : std::vector<int64_t>{8};
  width.to_longest = random.Chance(40);
  if (random.Chance(30)) {
    width.lengths = "LENGTHS";
    width.lengths_dtype = DType::kInt32;
  }
  padding.axes = {width};
  const int32_t fill = kPadding;
  const std::string element(reinterpret_cast<const char*>(&fill), sizeof(fill));
  padding.inputs = {{"IN", {{1, 0}}, element}, {"MORE", {{1, 0}}, element}};
  padding.outputs = {{"OUT", {{1, 0}}, {}}};
  padding.window = random.Of<size_t>({1, 2, 3, 5, 64});
  return padding;
}

void DescribePolicy(std::ostream& out, const QueuePolicy& policy) {
  out << (policy.timeout_action == QueuePolicy::TimeoutAction::kDelay ? "DELAY" : "REJECT") << " after "
      << policy.default_timeout_ns << (policy.allow_timeout_override ? " or less" : "") << ", at most "
      << policy.max_queue_size;
}

}  // namespace

ModelSpec DrawSpec(Random& random) {
  BatchOptions batching;
  batching.max_batch_size = random.Of<int64_t>({0, 1, 2, 4, 4, 8, 8});
  batching.dynamic = batching.max_batch_size > 0 && random.Chance(85);
  if (batching.dynamic) {
    for (int64_t size = 1; size <= batching.max_batch_size; ++size) {
      if (random.Chance(15)) batching.preferred_batch_sizes.push_back(size);
    }
    batching.max_queue_delay_ns = random.Of<int64_t>({0, 1, 5, 20, 50}) * kUs;
  }
  ModelSpec spec = testing::IntModel(batching);
  spec.inputs.push_back({"MORE", DType::kInt32, {-1}, {}, true});
  spec.decoupled = random.Chance(25);
  if (random.Chance(50)) {
    spec.sequence = DrawSequence(random, spec.batching);
    if (!spec.sequence->states.empty()) spec.decoupled = false;
    const bool oldest = spec.sequence->strategy == SequenceOptions::Strategy::kOldest;
    spec.batching.preserve_ordering = oldest && random.Chance(40);
  } else {
    DrawQueue(random, spec.queue);
    spec.batching.preserve_ordering = random.Chance(25);
    if (spec.has_batch_dimension() && random.Chance(40)) spec.padding = DrawPadding(random);
    spec.cached = !spec.decoupled && !spec.batching.preserve_ordering && !spec.padding && random.Chance(40);
  }
  spec.inputs.front().ragged = spec.has_batch_dimension() && !spec.padding && random.Chance(25);
  return spec;
}

std::string Describe(const ModelSpec& spec) {
  std::ostringstream out;
  const BatchOptions& batching = spec.batching;
  out << "max_batch_size " << batching.max_batch_size << (batching.dynamic ? ", dynamic, preferred" : ", one by one");
  for (const int64_t size : batching.preferred_batch_sizes) out << ' ' << size;
  out << ", delay " << batching.max_queue_delay_ns << (spec.decoupled ? ", decoupled" : "")
      << (batching.preserve_ordering ? ", answers in order" : "") << (spec.cached ? ", cached" : "")
      << (spec.inputs.front().ragged ? ", ragged" : "") << "\n";
  out << "priorities " << spec.queue.priority_levels << ", default " << spec.queue.default_priority_level << ": ";
  DescribePolicy(out, spec.queue.default_policy);
  for (const auto& [level, policy] : spec.queue.policies) {
    out << "; level " << level << ": ";
    DescribePolicy(out, policy);
  }
  if (spec.sequence) {
    const bool direct = spec.sequence->strategy == SequenceOptions::Strategy::kDirect;
    out << "; sequences: " << (direct ? "direct" : "oldest") << ", slots " << spec.sequence->slots << ", idle "
        << spec.sequence->max_idle_ns << ", utilization " << spec.sequence->minimum_slot_utilization
        << (spec.sequence->states.empty() ? "" : ", implicit state") << (spec.sequence->iterative ? ", iterative" : "");
  }
  if (spec.padding) {
    const PaddingOptions::Axis& width = spec.padding->axes[0];
    out << "; padded" << (width.to_longest ? " to the longest within" : " to");
    for (const int64_t bucket : width.buckets) out << ' ' << bucket;
    out << ", window " << spec.padding->window << (width.lengths.empty() ? "" : ", with lengths");
  }
  out << "\n";
  return out.str();
}

}  // namespace pyinfer::simulation
