// SPDX-License-Identifier: Apache-2.0
// sequence_rules.cc - the rules of Triton's sequence batcher.
#include <algorithm>
#include <map>
#include <utility>

#include "rules.h"

namespace pyinfer::simulation {
namespace {

class SequenceRules final : public Rules {
 public:
  explicit SequenceRules(const ModelSpec& spec) : spec_(spec), options_(*spec.sequence) {}

  void AddInstance(Time now) override {
    leaving_.push_back(false);
    Seat(now);
  }
  void RemoveInstance(size_t instance) override { leaving_[instance] = true; }

  End Push(const Asked& asked) override {
    if (closed_) return End::kClosed;
    ForgetIdle(asked.at);
    auto place = std::find_if(sequences_.begin(), sequences_.end(),
                              [&](const Sequence& one) { return one.id == asked.sequence && !one.ended; });
    if (place == sequences_.end()) {
      if (!asked.start) return End::kNoStart;
      Sequence begun;
      begun.id = asked.sequence;
      begun.number = begun_++;
      place = sequences_.insert(sequences_.end(), begun);
    }
    place->requests.push_back(ForBatching(asked, spec_));
    sequence_of_[asked.number] = place->number;
    place->last = asked.at;
    place->ended = asked.end;
    Seat(asked.at);
    return End::kNone;
  }

  void Cancel(int number) override { cancelled_.push_back(number); }

  void Look(Time now) override { ForgetIdle(now); }

  std::vector<int> Take(size_t instance, Time now) override {
    ForgetIdle(now);
    Reap(now);
    const std::vector<Sequence*> ready = Ready(instance);
    const size_t count = RipeRows(ready, now).count;
    std::vector<int> rows;
    for (size_t i = 0; i < count; ++i) {
      // Direct: a slot is a row, whether it has a request or not.
      while (Direct() && rows.size() < ready[i]->slot) rows.push_back(kEmptyRow);
      const Asked taken = ready[i]->requests.front();
      rows.push_back(taken.number);
      ready[i]->requests.pop_front();
      if (options_.iterative) ready[i]->runs = taken;
    }
    Drop([](const Sequence& one) { return one.ended && one.requests.empty(); });
    Seat(now);
    return rows;
  }

  std::optional<Time> RipeAt(size_t instance, Time now) const override {
    std::optional<Time> idle;
    for (const Sequence& one : sequences_) {
      for (const Asked& asked : one.requests) {
        if (IsCancelled(asked.number)) return std::nullopt;
      }
      if (!one.seated || !one.requests.empty() || one.runs) continue;
      const Time due = one.last + options_.max_idle_ns;
      if (due <= now) return std::nullopt;
      if (!idle || due < *idle) idle = due;
    }
    const auto ripe = RipeRows(const_cast<SequenceRules*>(this)->Ready(instance), now);
    if (ripe.at) return *ripe.at;
    const bool backlog = std::any_of(sequences_.begin(), sequences_.end(), [](const Sequence& s) { return !s.seated; });
    return backlog && idle ? *idle : -1;
  }

  void Return(int number, Time now) override {
    for (Sequence& one : sequences_) {
      if (!one.runs || one.runs->number != number) continue;
      Asked again = *one.runs;
      again.at = one.last = now;
      one.requests.push_front(again);
      one.runs.reset();
      return;
    }
    Note(number, End::kClosed);  // all was given up meanwhile
  }

  void Release(int number, Time now) override {
    Drop([&](const Sequence& one) { return one.runs && one.runs->number == number; });
    Seat(now);
  }

  void Expire(Time now) override {
    ForgetIdle(now);
    const auto late = [&](const Sequence& one) {
      return !one.seated && std::any_of(one.requests.begin(), one.requests.end(), [&](const Asked& asked) {
        return asked.timeout_us != 0 && asked.at + static_cast<Time>(asked.timeout_us) * 1000 <= now;
      });
    };
    GiveUp(late, End::kSequenceTimeout);
  }

  void Reap(Time now) override {
    const auto given_up = [&](const Sequence& one) {
      return std::any_of(one.requests.begin(), one.requests.end(),
                         [&](const Asked& asked) { return IsCancelled(asked.number); });
    };
    GiveUp(given_up, End::kCancelled);
    Seat(now);
  }

  void Close() override { closed_ = true; }

  void FailAll() override {
    closed_ = true;
    GiveUp([](const Sequence&) { return true; }, End::kUnloaded);
  }

  size_t waiting() const override {
    size_t count = 0;
    for (const Sequence& one : sequences_) count += one.requests.size();
    return count;
  }

  int SequenceOf(int number) const override { return sequence_of_.at(number); }

  bool Leaves(size_t instance) const override {
    return std::none_of(sequences_.begin(), sequences_.end(),
                        [&](const Sequence& one) { return one.seated && one.instance == instance; });
  }

 private:
  struct Sequence {
    uint64_t id = 0;
    int number = 0;
    std::deque<Asked> requests;  // that wait
    std::optional<Asked> runs;   // of an iterative model: is being executed
    Time last = 0;               // when a request came, or the sequence got its slot
    bool ended = false;          // its END has come
    bool seated = false;         // has a slot
    size_t instance = 0, slot = 0;
  };

  bool Direct() const { return options_.strategy == SequenceOptions::Strategy::kDirect; }
  bool IsCancelled(int number) const { return std::count(cancelled_.begin(), cancelled_.end(), number) != 0; }
  bool Taken(size_t instance, size_t slot) const {
    return std::any_of(sequences_.begin(), sequences_.end(),
                       [&](const Sequence& one) { return one.seated && one.instance == instance && one.slot == slot; });
  }

  template <typename Which>
  void Drop(Which which) {
    sequences_.erase(std::remove_if(sequences_.begin(), sequences_.end(), which), sequences_.end());
  }
  template <typename Which>
  void GiveUp(Which which, End end) {
    for (const Sequence& one : sequences_) {
      if (!which(one)) continue;
      for (const Asked& asked : one.requests) Note(asked.number, end);
    }
    Drop(which);
  }

  // Those that wait get the free slots in the order of their beginning: the lowest slot of any instance first.
  void Seat(Time now) {
    for (Sequence& one : sequences_) {
      for (size_t slot = 0; slot < options_.slots && !one.seated; ++slot) {
        for (size_t instance = 0; instance < leaving_.size() && !one.seated; ++instance) {
          if (leaving_[instance] || Taken(instance, slot)) continue;
          one.seated = true;
          one.instance = instance;
          one.slot = slot;
          one.last = now;
        }
      }
    }
  }

  void ForgetIdle(Time now) {
    Drop([&](const Sequence& one) {
      return one.seated && one.requests.empty() && !one.runs && one.last + options_.max_idle_ns <= now;
    });
    Seat(now);
  }

  // The instance's sequences that have a request, by slot (direct) or by the age of the request (oldest).
  std::vector<Sequence*> Ready(size_t instance) {
    std::vector<Sequence*> ready;
    for (Sequence& one : sequences_) {
      if (one.seated && one.instance == instance && !one.requests.empty()) ready.push_back(&one);
    }
    const auto place = [&](const Sequence* one) {
      return std::make_pair(Direct() ? 0 : one->requests.front().at, one->slot);
    };
    std::sort(ready.begin(), ready.end(), [&](auto* a, auto* b) { return place(a) < place(b); });
    if (!Direct() || ready.empty() || spec_.batching.max_batch_size == 0) return ready;
    // What can not run beside the first waits for the next batch.
    const Asked& first = ready.front()->requests.front();
    const auto differs = [&](const Sequence* one) {
      return one->requests.front().width != first.width || one->requests.front().more != first.more;
    };
    ready.erase(std::remove_if(ready.begin(), ready.end(), differs), ready.end());
    return ready;
  }

  Ripe RipeRows(const std::vector<Sequence*>& ready, Time now) const {
    std::vector<Asked> line;
    for (const Sequence* one : ready) line.push_back(one->requests.front());
    if (!Direct()) return RipeBatch(line, spec_.batching, closed_, now);
    if (line.empty()) return {};
    Time due = line.front().at;
    for (const Asked& one : line) due = std::min(due, one.at);
    due += spec_.batching.max_queue_delay_ns;
    const double wanted = options_.minimum_slot_utilization * static_cast<double>(options_.slots);
    if (static_cast<double>(line.size()) >= wanted || due <= now || closed_) return {line.size(), now};
    return {0, due};
  }

  const ModelSpec& spec_;
  const SequenceOptions& options_;
  std::vector<Sequence> sequences_;  // in the order of their beginning
  std::vector<bool> leaving_;        // by instance: gets no further sequence
  std::vector<int> cancelled_;
  std::map<int, int> sequence_of_;  // by request
  int begun_ = 0;
  bool closed_ = false;
};

}  // namespace

std::unique_ptr<Rules> MakeSequenceRules(const ModelSpec& spec) { return std::make_unique<SequenceRules>(spec); }

}  // namespace pyinfer::simulation
