// SPDX-License-Identifier: Apache-2.0
// ensemble_run.h - one request on its way through the graph of an ensemble.
//
// A run holds the tensors that are there, and knows which steps were called. A step is called as soon as its inputs are
// there: with the request's id, sequence, flags, priority and parameters, and with what is left of its timeout.
//
// Contexts: what a step answers belongs to the context that it was called in. Each response of a decoupled model opens
// a context of its own, below that; there, steps see the tensors of the contexts above as well. A context in which all
// the outputs that were asked for can be seen is a response of the ensemble.
//
// The first failure answers the request; what is still with other models is then cancelled, and what they answer is
// dropped. Any thread; no method calls out with a lock held.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "engine/ensemble.h"
#include "infer/completion.h"
#include "infer/request.h"

namespace pyinfer {

// Gives a tensor the shape that is expected of it where only one side has a batch dimension: one row is added to, or
// taken from, what does not fit without. `batching`: it is expected by a model with a batch dimension, which `dims`
// lack.
void FitBatchDimension(bool batching, bool batched, const Shape& dims, Shape& shape);

// The sequence that a request to a step belongs to, where a step before has said so.
struct StepSequence {
  CorrelationId id;
  uint32_t flags = 0;
};
using StepSequencePtr = std::shared_ptr<const StepSequence>;

// What the parameters `sequence_id`, `sequence_start` and `sequence_end` of a response say; null where there is none of
// them. `own`: the sequence that the request belongs to. InvalidArg where one has a wrong type.
StatusOr<StepSequencePtr> SequenceThatFollows(const Parameters& parameters, const CorrelationId& own);

// A tensor of the ensemble, as far as it is there.
struct EnsembleValue {
  enum class State { kUnset, kAbsent, kSet };  // kAbsent: an optional input that was not given

  State state = State::kUnset;
  bool batched = false;  // the first dimension is that of the batch
  Tensor tensor;
  StepSequencePtr sequence = {};  // that of those who take it; null: that of the ensemble's request
};

struct EnsembleContext {
  EnsembleContext(EnsembleContext* above, const EnsemblePlan& plan)
      : parent(above), values(plan.tensors.size()), called(plan.steps.size()) {}

  EnsembleContext* const parent;
  std::vector<std::unique_ptr<EnsembleContext>> children;
  std::vector<EnsembleValue> values;  // by tensor
  std::vector<char> called;           // by step
  size_t open = 0;                    // calls that are not answered for good
  bool responded = false;
};

// One step of one run, from its inputs to the last answer of its model.
struct EnsembleCall {
  std::shared_ptr<EnsembleRun> run;
  EnsembleContext* context = nullptr;
  size_t step = 0;
  std::vector<EnsembleValue> inputs;  // those that are given; their names are the model's
  std::vector<Slice> shared;          // what the model must not write to; its outputs may be made of it
  StepSequencePtr sequence;           // of the first input that has one

  // Where steps are limited; guarded by the run.
  std::shared_ptr<EnsembleCall> cause;  // the call whose answer made this one possible, until this one is let in
  size_t held = 0;                      // calls of which this one is the cause, and that wait to be let in
  size_t unseen = 0;                    // responses of a decoupled model of which it is not clear yet what they cause
  bool over = false;                    // its place is given back when `held` is 0
};

class EnsembleRun final : public std::enable_shared_from_this<EnsembleRun> {
 public:
  EnsembleRun(std::shared_ptr<Ensemble> ensemble, RequestPtr request);
  ~EnsembleRun();

  // True where the caller is to have Advance() called: nobody else will.
  bool Schedule();
  // Does what can be done: calls steps, sends responses, ends. Requires: Schedule() said so.
  void Advance();

  // A response to `request`, which is that of `call`.
  void OnResponse(const std::shared_ptr<EnsembleCall>& call, const Request& request, Response response, bool final);
  // For whoever answers a call; see ensemble_limits.cc and CompletionSink.
  bool limits_room() const;
  // Whether what `call` has made possible waits to be let in. If so, `listener` is told once it may not.
  bool HoldsUp(const EnsembleCall& call, const std::shared_ptr<RoomListener>& listener);
  const Ensemble& ensemble() const { return *ensemble_; }
  // Where the answer to the ensemble's own request goes; null once it was given.
  std::shared_ptr<const CompletionSink> outer() const;
  // The limit of its step lets `call` go; false where the run has ended.
  bool OnEntered(std::shared_ptr<EnsembleCall> call);
  // Ends the run, whatever its steps do.
  void Fail(Status status);
  // Nobody waits for an answer any more, or it was given.
  bool cancelled() const noexcept;

 private:
  // A response of the ensemble.
  struct Answer {
    std::vector<Tensor> outputs;
    StepSequencePtr sequence;  // of the first output that has one
  };
  // What Advance has found to do.
  struct Todo {
    std::vector<std::shared_ptr<EnsembleCall>> calls, entered;  // those that are to ask for entry, and those that have
    std::vector<std::shared_ptr<EnsembleCall>> kept_out;        // of `calls`
    std::vector<std::shared_ptr<EnsembleCall>> over;            // whose last answer was looked at
    std::vector<std::shared_ptr<EnsembleCall>> seen;            // one for each response that was looked at
    std::vector<Answer> responses;
    bool ends = false;  // with `failure`; where there is none, with the response or (decoupled) after the responses
    Status failure;

    bool empty() const {
      return calls.empty() && entered.empty() && over.empty() && seen.empty() && responses.empty() && !ends;
    }
  };
  // A tensor that was set and not looked at since.
  struct Change {
    EnsembleContext* context;
    size_t tensor;
    std::shared_ptr<EnsembleCall> by;  // where steps are limited: whose answer it is; null for the request's own
  };

  // All of these require that mutex_ is held.
  Todo CollectLocked();
  void SetInputsLocked();
  void SetLocked(EnsembleContext& context, size_t tensor, EnsembleValue value,
                 std::shared_ptr<EnsembleCall> by = nullptr);
  // The value that `context` sees, unset where there is none, and the context where it was set.
  std::pair<EnsembleValue*, EnsembleContext*> SeeLocked(EnsembleContext& context, size_t tensor) const;
  bool IsReadyLocked(EnsembleContext& context, size_t step) const;
  void CallReadyLocked(EnsembleContext& context, size_t step, const std::shared_ptr<EnsembleCall>& cause, Todo& todo);
  std::shared_ptr<EnsembleCall> MakeCallLocked(EnsembleContext& context, size_t step);
  void RespondReadyLocked(EnsembleContext& context, Todo& todo);
  void KeepOutputsLocked(const std::shared_ptr<EnsembleCall>& call, const Request& request, std::vector<Tensor> outputs,
                         StepSequencePtr sequence);
  // `call` is let in: its cause is not held up by it any more, and may give its place back: it is added to `left`. True
  // where the cause is held up by nothing any more.
  bool ReleaseCauseLocked(EnsembleCall& call, std::vector<size_t>& left);
  bool IsSpentLocked(const EnsembleContext& context) const;
  void FreeSpentLocked();
  void FailLocked(FailureReason reason, Status status);
  bool ScheduleLocked();

  // These that it is not held.
  void Resume();
  // Gives back the places of those that nobody waits behind, once the calls of `todo` were let in or kept out.
  void GiveBack(const Todo& todo);
  void TellListeners();
  void Call(const std::shared_ptr<EnsembleCall>& call);
  RequestPtr MakeRequest(const std::shared_ptr<EnsembleCall>& call, const ModelSpec& model) const;
  Response MakeAnswer(Answer answer) const;
  void Send(Todo& todo);
  void End(Response response);

  const std::shared_ptr<Ensemble> ensemble_;
  const EnsemblePlan& plan_;
  const EnsemblePlan::Demand demand_;

  mutable std::mutex mutex_;
  // nullptr once it is answered; taken away by Advance alone, which may use it without the lock.
  RequestPtr request_;
  EnsembleContext root_;
  std::vector<Change> changed_;
  std::vector<EnsembleContext*> touched_;  // contexts that may be spent
  std::vector<std::shared_ptr<EnsembleCall>> entered_;
  // Where steps are limited: calls that are over, those of them that keep their place for now, and one for each
  // response of a decoupled model that nobody has looked at.
  std::vector<std::shared_ptr<EnsembleCall>> over_, staying_, unseen_;
  std::vector<std::weak_ptr<RoomListener>> listeners_;  // that are to be told once
  size_t open_ = 0;                                     // of all contexts
  bool begun_ = false;
  bool scheduled_ = false;
  Status failure_;
  FailureReason reason_ = FailureReason::kOther;
  TimeNs input_ns_ = 0, infer_ns_ = 0, output_ns_ = 0;  // of all steps, as the statistics count them
};

}  // namespace pyinfer
