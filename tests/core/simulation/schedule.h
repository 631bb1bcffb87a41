// SPDX-License-Identifier: Apache-2.0
// schedule.h - one life of a model, drawn from a seed: requests come and are cancelled, instances come and go, take
// batches and finish them, time passes, the model is drained and stopped. One thread, one ManualClock.
//
// After each event the model is held against Rules: every request has the answer that it must have by then, once, or
// none; every batch holds what it must. A difference throws testing::Failure.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "../scheduling.h"
#include "engine/model.h"
#include "event_log.h"
#include "random.h"
#include "rules.h"

namespace pyinfer::simulation {

class Schedule {
 public:
  // `log`: told of every event; may be nullptr.
  Schedule(uint64_t seed, std::ostream* log);

  void Run();

 private:
  struct Sent {
    Asked asked;
    testing::SinkPtr sink;
    size_t partial = 0;  // responses before the last
    int64_t width = 0;   // as it is executed, padded or not
    bool open = true;
  };
  struct Instance {
    size_t number = 0;
    bool removed = false;
    std::optional<Batch> batch;
    std::vector<int> rows;
  };
  // A request that left its batch to be answered apart.
  struct Apart {
    std::shared_ptr<Responder> responder;
    int number = 0;
  };
  // What an executor said of a request; its client may have to wait for it.
  enum class Said { kValue, kRefused, kNothing, kDropped };
  // Requests whose answers leave in this order.
  struct Line {
    std::vector<int> open;
    size_t last = 0;  // where in order_ the last one is whose place is promised
  };
  struct Counts {
    uint64_t ok = 0, rows = 0, executions = 0, hits = 0;
    std::array<uint64_t, kFailureReasons> failures{};
  };

  // Events.
  void Step();
  void Push();
  void Cancel();
  void Advance();
  void Take(Instance& instance);
  void Finish(Instance& instance);
  void Answer(Batch& batch, size_t row, int number);
  // In turn `line` from now on, where it is not already.
  void JoinLine(size_t line, int number);
  // Null where its answers need not leave in order, or it has no turn yet.
  Line* LineOf(int number);
  void Respond(size_t which, bool last);
  void AddInstance();
  void RemoveInstance();
  void Drain();
  void Stop();
  // Lets everything come to its end.
  void Settle();

  // Checks.
  void CheckBatch(const Batch& batch, const std::vector<int>& rows);
  void CheckControls(const Request& request, const Asked* asked);
  void CheckEnded();
  void CheckStep();
  void CheckCounts();
  void CheckSaid();
  void ExpectSaid(int number, Said said);
  void ExpectFailure(int number, Code code, const std::string& message, FailureReason reason);
  void ExpectValue(int number);
  // It is answered from the cache.
  void ExpectHit(int number);
  // `out_of_turn`: nobody waited for those before it, and what was kept back of it may be lost.
  void Close(Sent& sent, bool out_of_turn = false);

  // Of requests with one key, the answer to one is that to all.
  using Key = std::tuple<int32_t, int64_t, int64_t, bool>;
  static Key KeyOf(const Asked& asked) { return {asked.value, asked.rows, asked.width, asked.more}; }

  Sent& At(int number) { return sent_[static_cast<size_t>(number)]; }
  bool iterative() const { return model_->spec()->sequence && model_->spec()->sequence->iterative; }
  void CheckInputs(const Request& request, int number);
  void CheckWidths(const std::vector<int>& rows);
  std::vector<Tensor> Output(const Sent& sent) const;
  Tensor NextState(int number) const;
  Asked Draw();
  RequestPtr Make(const Asked& asked, const testing::SinkPtr& sink) const;
  Random random_;
  std::vector<int> order_;  // of all answers, as they came; written to until the model is gone
  const std::shared_ptr<ManualClock> clock_;
  const EventLog log_;
  std::shared_ptr<Model> model_;
  std::unique_ptr<Rules> rules_;
  std::vector<Sent> sent_;
  std::vector<int> open_;  // numbers
  std::vector<Instance> instances_;
  std::vector<Apart> apart_;
  std::map<int, Said> said_;       // by the number of a request that is open
  std::map<int, int32_t> states_;  // by sequence
  std::set<int> again_;            // of the batch that is finished: those that are to be executed once more
  uint64_t iterations_ = 0;        // requests to an iterative model: each is a sequence of its own
  std::set<Key> kept_;             // by the cache
  std::map<size_t, Line> lines_;   // of the model, or of each instance where there are sequences
  Counts counts_;
};

}  // namespace pyinfer::simulation
