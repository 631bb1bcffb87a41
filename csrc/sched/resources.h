// SPDX-License-Identifier: Apache-2.0
// resources.h - which instances may execute, where executions need what there is only so much of.
//
// A ledger: no clock, no lock, no thread. A holder (an instance of some model) is entered with what each execution of
// it needs. It asks before an execution, is granted all of that at once, and gives it back afterwards.
//
// Of a resource there is what the operator says, or as much as the holder that needs most of it. It counts for each
// device apart, or, if global, once for all. Names are compared without regard to case.
//
// Who has the lowest (executions x priority) is first, of equals who asked first. Those behind get what is left when
// all before them have, or could have, what they need: small holders do not starve a large one, and nothing lies idle
// that nobody before needs.
//
// Source of the rules: Triton's rate limiter, in its mode execution_count. There, whoever is first holds up all others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"

namespace pyinfer {

struct ResourceNeed {
  std::string name;
  bool global = false;
  uint64_t count = 0;
};

// What one instance needs for each execution. The last of equal names counts.
struct InstanceLimits {
  std::vector<ResourceNeed> resources;
  uint32_t priority = 1;  // 0 counts as 1; twice as much: half as many executions
  int64_t device = 0;
};

// What there is of a resource on `device`, or on each (kEveryDevice). Where several apply, the most counts; to a global
// resource all do.
struct ResourceTotal {
  static constexpr int64_t kEveryDevice = -1;

  std::string name;
  uint64_t count = 0;
  int64_t device = kEveryDevice;
};

class ResourceLedger {
 public:
  struct Changes {
    std::vector<size_t> granted;
    std::vector<size_t> withdrawn;  // they asked, and have no use for it any more
  };

  // Of what `totals` does not name there is nothing, unless it is empty. The first of several for one name and device
  // counts, as in Triton.
  explicit ResourceLedger(const std::vector<ResourceTotal>& totals = {});

  // One more holder; its number. InvalidArg, and nothing has changed, where its needs can never be met, or where it has
  // a name as a global resource that others have for each device.
  StatusOr<size_t> Enter(const InstanceLimits& limits);
  // It is no part of this any more, and gives back what it holds.
  void Leave(size_t holder);

  // Requires: the holder neither waits nor holds.
  void Ask(size_t holder);
  // Requires: it waits.
  void Withdraw(size_t holder);
  // Requires: it holds. `executed`: it made use of it.
  void GiveBack(size_t holder, bool executed);

  bool waits(size_t holder) const { return holders_.at(holder).state == State::kWaits; }
  bool holds(size_t holder) const { return holders_.at(holder).state == State::kHolds; }

  // Grants what can be granted now. `wanted`: whether one that waits still has something to execute.
  Changes Grant(const std::function<bool(size_t)>& wanted);

  // Whether the holder would be granted what it needs in time if those of `keeping` never gave back what they hold, and
  // all others did.
  bool CouldHold(size_t holder, const std::set<size_t>& keeping) const;

  // Of the resource on `device`, or of the global one: how much there is, and how much of it is held.
  struct Use {
    uint64_t total = 0;
    uint64_t held = 0;
  };
  static constexpr int64_t kGlobal = -2;
  // By (name in lower case, device).
  std::map<std::pair<std::string, int64_t>, Use> uses() const;

 private:
  using Key = std::pair<std::string, int64_t>;
  struct Pool {
    std::multiset<uint64_t> needs;  // of the holders
    uint64_t held = 0;
    uint64_t claimed = 0;  // by those that wait, while grants are decided
  };
  enum class State { kIdle, kWaits, kHolds };
  // Triton counts that an instance is initialized and warmed up; it tells who is next among the first.
  static constexpr uint64_t kExecutionsAtFirst = 2;
  struct Holder {
    std::map<Key, uint64_t> needs;
    uint32_t priority = 1;
    State state = State::kIdle;
    uint64_t executions = kExecutionsAtFirst;
    uint64_t asked = 0;  // its place among those of equal rank

    double rank() const;
  };

  // What the operator says of it; nothing where it depends on the holders.
  bool IsLimited(const Key& key, uint64_t* total) const;
  uint64_t Total(const Key& key, const Pool& pool) const;
  Status Check(const std::map<Key, uint64_t>& needs, const std::map<Key, std::string>& names) const;
  std::vector<size_t> Line() const;

  std::map<Key, uint64_t> limits_;
  std::map<Key, Pool> pools_;  // of what some holder needs
  std::map<size_t, Holder> holders_;
  size_t next_holder_ = 0;
  uint64_t next_place_ = 0;
};

}  // namespace pyinfer
