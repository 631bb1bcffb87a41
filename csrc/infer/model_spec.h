// SPDX-License-Identifier: Apache-2.0
// model_spec.h - what the core knows of a model version: its tensors and how its requests are queued.
//
// Immutable once it is used.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "infer/tensor.h"

namespace pyinfer {

struct TensorSpec {
  std::string name;
  DType dtype = DType::kInvalid;
  Shape dims;                    // without the batch dimension; -1 is variable
  std::optional<Shape> reshape;  // what the executor sees instead of dims
  bool optional = false;
  std::vector<std::string> labels = {};  // of an output: what its classes are called, by index
  bool ragged = false;                   // of an input: requests of different shapes may share a batch

  const Shape& executor_dims() const { return reshape ? *reshape : dims; }
};

struct BatchOptions {
  // The most rows in one execution; 0: tensors have no batch dimension and each execution takes one request.
  int64_t max_batch_size = 0;
  // Requests are joined into batches; without it each execution takes one request.
  bool dynamic = false;
  std::vector<int64_t> preferred_batch_sizes;  // ascending
  int64_t max_queue_delay_ns = 0;
  bool preserve_ordering = false;  // answers leave in the order in which requests came
};

// A tensor that tells the executor about the requests of a batch, made of one of their inputs; see sched/ragged.h.
struct BatchInput {
  enum class Kind {
    kElementCount,
    kAccumulatedElementCount,
    kAccumulatedElementCountWithZero,
    kMaxElementCountAsShape,
    kItemShape,
    kItemShapeFlatten,
  };

  Kind kind = Kind::kElementCount;
  std::vector<std::string> targets;  // what the executor calls it
  std::string source;                // an input of the requests
  DType dtype = DType::kInvalid;     // kInt32 or kFp32
};

// Outputs whose rows are to be told apart by the shapes of an input.
struct BatchOutput {
  std::vector<std::string> targets;
  std::string source;
};

// Lengths that differ between requests and are padded, so that these share a batch; see infer/padding.h.
struct PaddingOptions {
  // What is as long in a request as it happens to be: its tokens, the height of its picture.
  struct Axis {
    std::string name;
    std::vector<int64_t> buckets;  // ascending, not empty; requests of one bucket go together, longer ones are refused
    bool to_longest = false;       // padded to the longest of the batch, and not to the bucket
    std::string lengths;           // an input of the executor, [rows]: how long each row was; empty: there is none
    DType lengths_dtype = DType::kInvalid;  // kInt32 or kInt64
  };
  struct Place {
    size_t dim = 0;  // of the whole shape: the batch dimension is 0
    size_t axis = 0;
  };
  struct Tensor {
    std::string name;
    std::vector<Place> places;  // ascending by dim, not empty
    std::string fill;           // of an input: the element to pad with, as on the wire
  };

  std::vector<Axis> axes;
  std::vector<Tensor> inputs;
  std::vector<Tensor> outputs;  // to be cut back to the lengths of their request
  size_t window = 1;            // a batch is made of the first so many requests that wait
};

// How long, and how many, requests of one priority may wait.
struct QueuePolicy {
  enum class TimeoutAction { kReject, kDelay };

  TimeoutAction timeout_action = TimeoutAction::kReject;
  int64_t default_timeout_ns = 0;       // 0: none
  bool allow_timeout_override = false;  // a client may ask for a shorter one
  size_t max_queue_size = 0;            // 0: unlimited
};

struct QueueOptions {
  uint64_t priority_levels = 0;  // 0: all requests are alike
  uint64_t default_priority_level = 0;
  QueuePolicy default_policy;
  std::map<uint64_t, QueuePolicy> policies;  // of single levels
  // Not 0: answers are worth something only so long after their requests came; see sched/slo_policy.h. Then policies
  // have no timeouts.
  int64_t latency_slo_ns = 0;
};

// A tensor that tells the model about the sequence a request belongs to: one element, BYTES only for the correlation
// id.
struct SequenceControl {
  enum class Kind { kStart, kReady, kEnd, kCorrelationId };

  Kind kind = Kind::kStart;
  std::string name;
  DType dtype = DType::kInvalid;
  // The element that says false, and the one that says true; not for the correlation id.
  Slice no, yes;
};

// A tensor that is kept for each sequence: an output of one request is the input of the next, and clients see neither.
struct SequenceStateSpec {
  std::string input_name;
  std::string output_name;
  DType dtype = DType::kInvalid;
  Shape dims;           // without the batch dimension; -1 is variable
  Shape initial_shape;  // of the first request of a sequence, without the batch dimension; nothing in it is variable
  Slice initial;
};

// How requests that belong to sequences find their places; see sched/sequence_source.h.
struct SequenceOptions {
  enum class Strategy { kDirect, kOldest };

  Strategy strategy = Strategy::kDirect;
  int64_t max_idle_ns = 0;
  // Of each instance: max_batch_size where the strategy is direct, max_candidate_sequences where it is oldest.
  size_t slots = 1;
  // Direct: the share of the slots that must have a request, or the oldest of them have waited max_queue_delay.
  double minimum_slot_utilization = 0;
  std::vector<SequenceControl> controls;
  std::vector<SequenceStateSpec> states;
  // A request is executed again and again until its executor releases it; it need not belong to a sequence.
  bool iterative = false;

  const SequenceStateSpec* FindStateOutput(std::string_view output) const {
    for (const SequenceStateSpec& state : states) {
      if (state.output_name == output) return &state;
    }
    return nullptr;
  }
};

// One step of an ensemble: a request to another model. Each pair is (name of a tensor of that model, name of a tensor
// of the ensemble).
struct EnsembleStep {
  std::string model;
  int64_t version = -1;  // -1: the latest
  std::vector<std::pair<std::string, std::string>> inputs, outputs;
};

struct EnsembleOptions {
  std::vector<EnsembleStep> steps;
  size_t max_inflight_requests = 0;  // of each step, of all requests together; 0: unlimited
};

// The value at `quantile` (0 to 1) is to be known up to `error` (above 0), a share of all values.
struct QuantileTarget {
  double quantile = 0;
  double error = 0;
};

// What is counted of a model beside what always is.
struct StatisticsOptions {
  std::vector<QuantileTarget> summary_quantiles;  // empty: no summaries
  std::vector<double> first_response_bounds_ms;   // ascending; empty: no histogram of it
  bool histograms = true;
};

// A part costs memory, however small its rows are.
inline constexpr int64_t kMostParts = 1024;

struct ModelSpec {
  std::string name;
  int64_t version = 0;
  std::string version_text;
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;
  BatchOptions batching;
  QueueOptions queue;
  bool decoupled = false;      // a request may have no response, or several
  bool device_inputs = false;  // its executor takes inputs that are on a CUDA device; others find them on the host
  // Requests of up to kMostParts times max_batch_size rows are executed in parts; see sched/split_source.h. Requires
  // that there is a batch dimension, and neither sequences, nor several responses, nor ragged inputs.
  bool split_large = false;
  std::optional<SequenceOptions> sequence;
  std::optional<EnsembleOptions> ensemble;
  std::vector<BatchInput> batch_inputs;
  std::vector<BatchOutput> batch_outputs;
  std::optional<PaddingOptions> padding;
  bool cached = false;  // answers are kept in the response cache, where there is one
  StatisticsOptions statistics;

  const TensorSpec* FindInput(std::string_view input) const { return Find(inputs, input); }
  const TensorSpec* FindOutput(std::string_view output) const { return Find(outputs, output); }
  // The most rows of a request. Requires: has_batch_dimension().
  int64_t most_rows() const { return batching.max_batch_size * (split_large ? kMostParts : 1); }
  bool has_batch_dimension() const { return batching.max_batch_size > 0; }

 private:
  static const TensorSpec* Find(const std::vector<TensorSpec>& specs, std::string_view name) {
    for (const TensorSpec& spec : specs) {
      if (spec.name == name) return &spec;
    }
    return nullptr;
  }
};

}  // namespace pyinfer
