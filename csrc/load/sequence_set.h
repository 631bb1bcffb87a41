// SPDX-License-Identifier: Apache-2.0
// sequence_set.h - the sequences of a load: which request is the next of each, its id, its start and its end. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pyinfer {

struct SequencePlan {
  // Sequences at a time, of all workers together. 0: requests belong to none.
  uint32_t live = 0;
  // Requests of a sequence; 0: as many as its data has. Each sequence has its own length, up to so much (a share of
  // `length`) longer or shorter.
  uint32_t length = 0;
  double variation = 0;
  // Ids are from `first_id` on, to below `end_id` (0: without an end). There are at least `live` of them.
  uint64_t first_id = 1;
  uint64_t end_id = 0;
  uint64_t seed = 0;
  // {first body, number of bodies} of each stream of data. Sequences take them in turn, and theirs over and over.
  std::vector<std::pair<size_t, size_t>> data;
  // At most one request of a sequence in flight, also in an open loop.
  bool serial = false;
};

struct SequenceStep {
  size_t body = 0;
  uint64_t id = 0;
  bool start = false;
  bool end = false;
};

// The sequences `first` to `first` + `count` - 1 of a plan, which are 0 to `count` - 1 here. No two sequences at a time
// have the same id, whichever set they are in.
class SequenceSet {
 public:
  // `plan` outlives this.
  SequenceSet(const SequencePlan& plan, uint32_t first, uint32_t count);

  uint32_t size() const { return static_cast<uint32_t>(states_.size()); }
  // The next request; that of a new sequence after the last, or where the one before was abandoned.
  SequenceStep Next(uint32_t sequence);
  // Of the sequence that began last.
  uint64_t id(uint32_t sequence) const { return states_[sequence].id; }
  // Its server has refused a request: it does not go on.
  void Abandon(uint32_t sequence) { states_[sequence].left = 0; }
  // It has begun and has not been ended.
  bool is_open(uint32_t sequence) const { return states_[sequence].left != 0; }
  bool any_open() const;
  // A request that ends it before its time. Requires: is_open().
  SequenceStep End(uint32_t sequence);

 private:
  struct State {
    // Among all sequences of the load: of the one that began last, and of the one after it.
    uint64_t number = 0;
    uint64_t next_number = 0;
    uint64_t id = 0;
    size_t done = 0;
    size_t left = 0;
  };

  void Begin(State& state);

  const SequencePlan& plan_;
  std::vector<State> states_;
};

// What an HTTP/1.1 request has among its parameters, in JSON, for WriteHttpStep to fill in.
inline constexpr std::string_view kSequenceFields =
    "\"sequence_id\":                    ,\"sequence_start\":     ,\"sequence_end\":     ";

// Replaces `out` with `body`, whose parameters say which step it is. For gRPC they go behind the message; for HTTP/1.1
// over the kSequenceFields. Requires: `body` has these.
void WriteGrpcStep(std::string& out, std::string_view body, const SequenceStep& step);
void WriteHttpStep(std::string& out, std::string_view body, const SequenceStep& step);

}  // namespace pyinfer
