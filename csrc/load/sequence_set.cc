// SPDX-License-Identifier: Apache-2.0
#include "load/sequence_set.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "load/random.h"
#include "wire/grpc_prefix.h"

namespace pyinfer {
namespace {

// An entry of ModelInferRequest.parameters.
void AppendParameter(std::string& out, std::string_view name, char field, uint64_t value) {
  char digits[10];
  size_t size = 0;
  for (; value > 0x7f; value >>= 7) digits[size++] = static_cast<char>(value | 0x80);
  digits[size++] = static_cast<char>(value);
  out += '\x22';
  out += static_cast<char>(2 + name.size() + 3 + size);
  out += '\x0a';
  out += static_cast<char>(name.size());
  out += name;
  out += '\x12';
  out += static_cast<char>(1 + size);
  out += field;
  out.append(digits, size);
}

constexpr char kBoolField = '\x08', kInt64Field = '\x10';

// Right behind `name` in `out`, from `at` on.
void Fill(std::string& out, size_t at, std::string_view name, std::string_view value) {
  at = out.find(name, at) + name.size();
  std::memcpy(&out[at], value.data(), value.size());
}

std::string_view ToText(bool value) { return value ? "true" : "false"; }

}  // namespace

SequenceSet::SequenceSet(const SequencePlan& plan, uint32_t first, uint32_t count) : plan_(plan), states_(count) {
  for (uint32_t i = 0; i < count; ++i) states_[i].next_number = first + i;
}

void SequenceSet::Begin(State& state) {
  state.number = state.next_number;
  state.next_number += plan_.live;
  // Those that follow each other here are `live` apart, so that another set can not come by the same id meanwhile.
  const uint64_t place = state.number % plan_.live;
  const uint64_t round = state.number / plan_.live;
  if (plan_.end_id == 0) {
    state.id = plan_.first_id + state.number;
  } else {
    const uint64_t ids = plan_.end_id - plan_.first_id;
    const uint64_t own = (ids - place + plan_.live - 1) / plan_.live;
    state.id = plan_.first_id + place + round % own * plan_.live;
  }
  const size_t steps = plan_.data[state.number % plan_.data.size()].second;
  uint64_t random = plan_.seed ^ (state.number * 0x9e3779b97f4a7c15);
  const double spread = plan_.variation * (2 * ToUniform(NextRandom(random)) - 1);
  const auto length = std::llround(static_cast<double>(plan_.length) * (1 + spread));
  state.left = plan_.length == 0 ? steps : static_cast<size_t>(std::max<long long>(1, length));
  state.done = 0;
}

SequenceStep SequenceSet::Next(uint32_t sequence) {
  State& state = states_[sequence];
  if (state.left == 0) Begin(state);
  const auto& [first, count] = plan_.data[state.number % plan_.data.size()];
  SequenceStep step{first + state.done % count, state.id, state.done == 0, state.left == 1};
  ++state.done;
  --state.left;
  return step;
}

bool SequenceSet::any_open() const {
  return std::any_of(states_.begin(), states_.end(), [](const State& state) { return state.left != 0; });
}

SequenceStep SequenceSet::End(uint32_t sequence) {
  states_[sequence].left = 1;
  return Next(sequence);
}

void WriteGrpcStep(std::string& out, std::string_view body, const SequenceStep& step) {
  out = body;
  AppendParameter(out, "sequence_id", kInt64Field, step.id);
  AppendParameter(out, "sequence_start", kBoolField, step.start ? 1 : 0);
  AppendParameter(out, "sequence_end", kBoolField, step.end ? 1 : 0);
  WriteGrpcPrefix(out.data(), out.size() - kGrpcPrefixSize);
}

void WriteHttpStep(std::string& out, std::string_view body, const SequenceStep& step) {
  out = body;
  const size_t at = out.find(kSequenceFields);
  Fill(out, at, "\"sequence_id\":", std::to_string(step.id));
  Fill(out, at, "\"sequence_start\":", ToText(step.start));
  Fill(out, at, "\"sequence_end\":", ToText(step.end));
}

}  // namespace pyinfer
