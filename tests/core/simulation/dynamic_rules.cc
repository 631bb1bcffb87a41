// SPDX-License-Identifier: Apache-2.0
// dynamic_rules.cc - the rules of Triton's dynamic batcher, priorities and queue policies.
#include <algorithm>
#include <tuple>
#include <utility>

#include "rules.h"

namespace pyinfer::simulation {
namespace {

class DynamicRules final : public Rules {
 public:
  explicit DynamicRules(const ModelSpec& spec) : spec_(spec) {}

  void AddInstance(Time) override {}
  void RemoveInstance(size_t) override {}

  End Push(const Asked& asked) override {
    if (closed_) return End::kClosed;
    Waiting one;
    one.asked = ForBatching(asked, spec_);
    one.level = asked.priority >= 1 && asked.priority <= spec_.queue.priority_levels
                    ? asked.priority
                    : spec_.queue.default_priority_level;
    one.policy = spec_.queue.default_policy;
    if (spec_.queue.policies.count(one.level) != 0) one.policy = spec_.queue.policies.at(one.level);
    const auto alike =
        std::count_if(waiting_.begin(), waiting_.end(), [&](const Waiting& other) { return other.level == one.level; });
    if (one.policy.max_queue_size != 0 && static_cast<size_t>(alike) >= one.policy.max_queue_size) return End::kFull;
    Time allowed = one.policy.default_timeout_ns;
    const auto own = static_cast<Time>(asked.timeout_us) * 1000;
    // A client may ask for less than the model gives, where there is a limit at all.
    if (allowed != 0 && one.policy.allow_timeout_override && own != 0) allowed = std::min(allowed, own);
    if (allowed != 0) one.deadline = asked.at + allowed;
    one.place = places_++;
    waiting_.push_back(one);
    return End::kNone;
  }

  void Cancel(int number) override {
    for (Waiting& one : waiting_) one.cancelled = one.cancelled || one.asked.number == number;
  }

  std::vector<int> Take(size_t, Time now) override {
    Expire(now);
    const Candidates candidates = Choose();
    std::vector<int> rows;
    const size_t count = RipeBatch(candidates.line, spec_.batching, closed_ || candidates.hurry, now).count;
    for (size_t i = 0; i < count; ++i) {
      rows.push_back(candidates.line[i].number);
      Remove(candidates.line[i].number);
    }
    return rows;
  }

  std::optional<Time> RipeAt(size_t, Time now) const override {
    for (const Waiting& one : waiting_) {
      if (one.cancelled || Over(one, now)) return std::nullopt;
    }
    const Candidates candidates = Choose();
    return RipeBatch(candidates.line, spec_.batching, closed_ || candidates.hurry, now).at.value_or(-1);
  }

  void Expire(Time now) override {
    for (size_t i = 0; i < waiting_.size();) {
      Waiting& one = waiting_[i];
      if (!Over(one, now)) {
        ++i;
      } else if (one.policy.timeout_action == QueuePolicy::TimeoutAction::kDelay) {
        one.delayed = true;
        one.place = places_++;
      } else {
        Note(one.asked.number, End::kTimeout);
        waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
  }

  void Reap(Time) override {
    for (const int number : lazy()) {
      Note(number, End::kCancelled);
      Remove(number);
    }
  }

  void Close() override { closed_ = true; }

  void FailAll() override {
    closed_ = true;
    for (const Waiting& one : waiting_) Note(one.asked.number, End::kUnloaded);
    waiting_.clear();
  }

  size_t waiting() const override { return waiting_.size(); }
  std::vector<int> lazy() const override {
    std::vector<int> found;
    for (const Waiting& one : waiting_) {
      if (one.cancelled) found.push_back(one.asked.number);
    }
    return found;
  }
  void Found(int number) override { Remove(number); }
  bool Leaves(size_t) const override { return true; }

 private:
  struct Waiting {
    Asked asked;
    uint64_t level = 0;
    QueuePolicy policy;
    Time deadline = 0;     // 0: none
    bool delayed = false;  // its time is over, and it goes behind the others of its level
    size_t place = 0;
    bool cancelled = false;
  };

  static bool Over(const Waiting& one, Time now) { return !one.delayed && one.deadline != 0 && one.deadline <= now; }

  // Those that may run, in their order.
  std::vector<Asked> Line() const {
    std::vector<Waiting> line = waiting_;
    std::sort(line.begin(), line.end(), [](const Waiting& a, const Waiting& b) {
      return std::tie(a.level, a.delayed, a.place) < std::tie(b.level, b.delayed, b.place);
    });
    std::vector<Asked> asked;
    for (const Waiting& one : line) {
      if (!one.cancelled) asked.push_back(one.asked);
    }
    return asked;
  }

  // Those of which the next batch is made, in their order.
  struct Candidates {
    std::vector<Asked> line;
    bool hurry = false;  // it is not to wait for more of them
  };

  // All, unless they are padded: then those that fall into the bucket of the first, of as many as the window shows. The
  // others may fill a batch themselves.
  Candidates Choose() const {
    const std::vector<Asked> line = Line();
    if (!spec_.padding || line.empty()) return {line, false};
    const std::vector<int64_t>& buckets = spec_.padding->axes[0].buckets;
    Candidates candidates;
    for (Asked asked : line) {
      asked.width = *std::find_if(buckets.begin(), buckets.end(), [&](int64_t one) { return asked.width <= one; });
      candidates.line.push_back(asked);
    }
    candidates.hurry = line.size() > spec_.padding->window;
    candidates.line.resize(std::min(line.size(), spec_.padding->window));
    const Asked first = candidates.line.front();
    int64_t others = 0;
    const auto unlike = [&](const Asked& one) { return one.width != first.width || one.more != first.more; };
    for (const Asked& one : candidates.line) others += unlike(one) ? one.rows : 0;
    candidates.hurry = candidates.hurry || others >= spec_.batching.max_batch_size;
    candidates.line.erase(std::remove_if(candidates.line.begin(), candidates.line.end(), unlike),
                          candidates.line.end());
    return candidates;
  }

  void Remove(int number) {
    waiting_.erase(std::remove_if(waiting_.begin(), waiting_.end(),
                                  [&](const Waiting& one) { return one.asked.number == number; }),
                   waiting_.end());
  }

  const ModelSpec& spec_;
  std::vector<Waiting> waiting_;
  size_t places_ = 0;
  bool closed_ = false;
};

}  // namespace

std::unique_ptr<Rules> MakeDynamicRules(const ModelSpec& spec) { return std::make_unique<DynamicRules>(spec); }

Asked ForBatching(Asked asked, const ModelSpec& spec) {
  // The optional input is never ragged.
  if (spec.inputs.front().ragged && !asked.more) asked.width = 1;
  return asked;
}

Ripe RipeBatch(const std::vector<Asked>& line, const BatchOptions& options, bool closed, Time now) {
  if (line.empty()) return {};
  if (!options.dynamic) return {1, now};
  size_t fits = 0;       // how many may run together
  size_t preferred = 0;  // of those, the most that add up to a preferred size
  int64_t rows = 0;
  Time oldest = line.front().at;
  for (const Asked& one : line) {
    const bool like_first = one.width == line.front().width && one.more == line.front().more;
    if (fits != 0 && (rows + one.rows > options.max_batch_size || !like_first)) break;
    rows += one.rows;
    oldest = std::min(oldest, one.at);
    ++fits;
    const auto& sizes = options.preferred_batch_sizes;
    if (std::count(sizes.begin(), sizes.end(), rows) != 0) preferred = fits;
  }
  const bool complete = fits < line.size() || rows >= options.max_batch_size;
  const Time due = oldest + options.max_queue_delay_ns;
  const bool waited = options.max_queue_delay_ns > 0 && due <= now;
  if (waited) return {fits, now};
  if (preferred != 0) return {preferred, now};
  if (closed || complete || options.max_queue_delay_ns == 0) return {fits, now};
  return {0, due};
}

}  // namespace pyinfer::simulation
