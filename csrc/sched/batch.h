// SPDX-License-Identifier: Apache-2.0
// batch.h - requests that are executed together, and the collection of their answers.
//
// A Batch owns its requests from the moment it is taken from a queue. Answers are collected while the executor runs and
// sent by Finish(), in request order. Every request of a batch is answered: what the executor left open is answered
// with an error, also when the batch is destroyed unfinished. A request can be detached from it, to be answered apart.
// One thread at a time.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "infer/request.h"
#include "sched/responder.h"
#include "sched/sequence_state.h"

namespace pyinfer {

class HeldResources;

// When an execution passed each stage; see Timeline for the names.
struct ExecutionTimes {
  TimeNs picked = 0;
  TimeNs packed = 0;
  TimeNs executed = 0;
  TimeNs split = 0;
};

// Told of each execution, before its requests are answered.
class ExecutionObserver {
 public:
  virtual ~ExecutionObserver() = default;
  virtual void OnExecuted(int64_t rows, const ExecutionTimes& times) noexcept = 0;
  // Of an iterative model: the request is to be executed once more, or its executor is done with it.
  virtual void OnRescheduled(RequestPtr) noexcept {}
  virtual void OnReleased(const CorrelationId&) noexcept {}
};

class Batch {
 public:
  Batch() = default;
  // Requires: `requests` is not empty and all are for `model`; where that pads inputs, it is done here. `states`: of
  // each request the state of its sequence, to be replaced by what a successful execution returns; null for a row that
  // has none, and empty where no row has one.
  Batch(std::vector<RequestPtr> requests, std::shared_ptr<const ModelSpec> model,
        std::shared_ptr<ExecutionObserver> observer, const Clock& clock, TimeNs picked,
        std::vector<SequenceStatePtr> states = {});
  ~Batch() { Finish(); }
  Batch(Batch&&) noexcept = default;
  Batch& operator=(Batch&&) noexcept;

  bool empty() const { return size() == 0; }
  size_t size() const { return contents_ ? contents_->requests.size() : 0; }
  int64_t rows() const { return contents_ ? contents_->rows : 0; }
  // Requires: !detached(index).
  const Request& request(size_t index) const { return *contents_->requests[index]; }
  const ModelSpec& model() const { return *contents_->model; }
  bool finished() const { return !contents_ || contents_->finished; }
  bool answered(size_t index) const { return contents_->responses[index].has_value(); }
  bool detached(size_t index) const { return contents_->requests[index] == nullptr; }
  bool open(size_t index) const { return !detached(index) && !answered(index); }
  // True where executions also return the state that the requests' sequences go on with.
  bool has_states() const { return contents_ && !contents_->states.empty(); }

  // The inputs are ready for the executor; what comes after counts as execution. May be called again.
  void MarkPacked();

  // Answers one request. Outputs come as the executor made them; they are checked against the model, and those that the
  // request did not ask for are dropped. A fault answers the request with an error that names it.
  // Requires: open(index), !finished().
  void Respond(size_t index, std::vector<Tensor> outputs, Parameters parameters);
  void Fail(size_t index, Status status);
  // Takes one request out of the batch, to be answered by itself: several times, from other threads, or after the batch
  // is finished. Nothing else may be asked of it here afterwards. Requires: open(index), !finished(), !has_states().
  std::shared_ptr<Responder> Detach(size_t index);
  // Has the request executed once more, in a later batch, instead of an answer. `responder` is what Detach gave out for
  // it, if it did. False where that has ended the request. Requires: may_reschedule(index), !finished().
  bool Reschedule(size_t index, Responder* responder);
  bool may_reschedule(size_t index) const;
  // Answers all that are still open.
  void FailOpen(const Status& status);
  // Answers all requests with their rows of `outputs` (each [rows(), ...]), without copying; see pack.h.
  void RespondPacked(std::vector<Tensor> outputs);

  // Copies those outputs of the answers so far that their executor may still write to. To be called when it has
  // returned and has let go of what it does not keep.
  void SettleOutputs();
  // The same, of those that lie in `bytes`: where all others are copied before the executor goes on.
  void SettleOutputsIn(std::string_view bytes);

  // Keeps `held` until the execution is over: what it needed is others' then, before the answers are sent.
  void Hold(std::shared_ptr<HeldResources> held) { contents_->held = std::move(held); }

  // Notes the times and sends the answers. Idempotent.
  void Finish() noexcept;

 private:
  // What becomes of a request to an iterative model.
  struct Sequel {
    CorrelationId sequence;
    bool again = false;
  };

  // Whether an answer is still to come, and not from another execution.
  bool is_owed(size_t index) const;
  // The state that follows from the outputs of one request is kept back until the end, and lost where it fails.
  Status TakeState(size_t index, std::vector<Tensor>& outputs);
  void ReplaceStates() noexcept;
  void ReturnRequests() noexcept;

  // In one piece of its own: batches are handed on often, from queue to instance to executor.
  struct Contents {
    std::vector<RequestPtr> requests;
    std::vector<std::optional<Response>> responses;
    std::vector<SequenceStatePtr> states;
    std::vector<std::vector<Tensor>> next_states;  // as states
    std::vector<Sequel> sequels;                   // of an iterative model, for each request
    std::shared_ptr<const ModelSpec> model;
    std::shared_ptr<ExecutionObserver> observer;
    std::shared_ptr<HeldResources> held;
    const Clock* clock = nullptr;
    ExecutionTimes times;
    int64_t rows = 0;
    bool finished = false;
  };
  std::unique_ptr<Contents> contents_;  // null of an empty batch
};

}  // namespace pyinfer
