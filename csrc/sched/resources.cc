// SPDX-License-Identifier: Apache-2.0
#include "sched/resources.h"

#include <algorithm>
#include <cctype>

namespace pyinfer {
namespace {

std::string Folded(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char sign) { return static_cast<char>(std::tolower(sign)); });
  return name;
}

}  // namespace

ResourceLedger::ResourceLedger(const std::vector<ResourceTotal>& totals) {
  for (const ResourceTotal& total : totals) limits_.emplace(Key(Folded(total.name), total.device), total.count);
}

bool ResourceLedger::IsLimited(const Key& key, uint64_t* total) const {
  if (limits_.empty()) return false;
  *total = 0;
  const auto applies = [&](int64_t device) {
    return key.second == kGlobal || device == key.second || device == ResourceTotal::kEveryDevice;
  };
  for (const auto& [limited, count] : limits_) {
    if (limited.first == key.first && applies(limited.second)) *total = std::max(*total, count);
  }
  return true;
}

uint64_t ResourceLedger::Total(const Key& key, const Pool& pool) const {
  uint64_t total = 0;
  if (IsLimited(key, &total)) return total;
  return pool.needs.empty() ? 0 : *pool.needs.rbegin();
}

Status ResourceLedger::Check(const std::map<Key, uint64_t>& needs, const std::map<Key, std::string>& names) const {
  for (const auto& [key, count] : needs) {
    uint64_t total = 0;
    if (!IsLimited(key, &total) || count <= total) continue;
    return Status::InvalidArg("Resource count for \"" + names.at(key) + "\" is limited to " + std::to_string(total) +
                              " which will prevent scheduling of one or more model instances, the minimum required "
                              "count is " +
                              std::to_string(count));
  }
  const auto clashes = [](const Key& a, const Key& b) {
    return a.first == b.first && (a.second == kGlobal) != (b.second == kGlobal);
  };
  for (const auto& [key, count] : needs) {
    const bool others =
        std::any_of(pools_.begin(), pools_.end(), [&](const auto& it) { return clashes(key, it.first); });
    const bool own = std::any_of(needs.begin(), needs.end(), [&](const auto& it) { return clashes(key, it.first); });
    if (!others && !own) continue;
    return Status::InvalidArg("Resource \"" + names.at(key) +
                              "\" is present as both global and device-specific resource in the model configuration.");
  }
  return Status();
}

StatusOr<size_t> ResourceLedger::Enter(const InstanceLimits& limits) {
  Holder holder;
  holder.priority = std::max<uint32_t>(1, limits.priority);
  std::map<Key, std::string> names;
  for (const ResourceNeed& need : limits.resources) {
    const Key key(Folded(need.name), need.global ? kGlobal : limits.device);
    holder.needs[key] = need.count;
    names[key] = need.name;
  }
  if (Status status = Check(holder.needs, names); !status.ok()) return status;
  for (const auto& [key, count] : holder.needs) pools_[key].needs.insert(count);
  holders_.emplace(next_holder_, std::move(holder));
  return next_holder_++;
}

void ResourceLedger::Leave(size_t holder) {
  if (holds(holder)) GiveBack(holder, /*executed=*/false);
  for (const auto& [key, count] : holders_.at(holder).needs) {
    const auto pool = pools_.find(key);
    pool->second.needs.erase(pool->second.needs.find(count));
    if (pool->second.needs.empty()) pools_.erase(pool);
  }
  holders_.erase(holder);
}

void ResourceLedger::Ask(size_t holder) {
  holders_.at(holder).state = State::kWaits;
  holders_.at(holder).asked = next_place_++;
}

void ResourceLedger::Withdraw(size_t holder) { holders_.at(holder).state = State::kIdle; }

void ResourceLedger::GiveBack(size_t holder, bool executed) {
  Holder& from = holders_.at(holder);
  for (const auto& [key, count] : from.needs) pools_.at(key).held -= count;
  from.state = State::kIdle;
  if (executed) ++from.executions;
}

double ResourceLedger::Holder::rank() const { return static_cast<double>(executions) * static_cast<double>(priority); }

std::vector<size_t> ResourceLedger::Line() const {
  std::vector<size_t> line;
  for (const auto& [number, holder] : holders_) {
    if (holder.state == State::kWaits) line.push_back(number);
  }
  std::sort(line.begin(), line.end(), [&](size_t a, size_t b) {
    const Holder& first = holders_.at(a);
    const Holder& second = holders_.at(b);
    return std::make_pair(first.rank(), first.asked) < std::make_pair(second.rank(), second.asked);
  });
  return line;
}

ResourceLedger::Changes ResourceLedger::Grant(const std::function<bool(size_t)>& wanted) {
  Changes changes;
  for (auto& [key, pool] : pools_) pool.claimed = 0;
  for (const size_t number : Line()) {
    Holder& holder = holders_.at(number);
    if (!wanted(number)) {
      Withdraw(number);
      changes.withdrawn.push_back(number);
      continue;
    }
    const bool fits = std::all_of(holder.needs.begin(), holder.needs.end(), [&](const auto& need) {
      const Pool& pool = pools_.at(need.first);
      return pool.held + pool.claimed + need.second <= Total(need.first, pool);
    });
    for (const auto& [key, count] : holder.needs) (fits ? pools_.at(key).held : pools_.at(key).claimed) += count;
    if (!fits) continue;
    holder.state = State::kHolds;
    changes.granted.push_back(number);
  }
  return changes;
}

bool ResourceLedger::CouldHold(size_t holder, const std::set<size_t>& keeping) const {
  std::map<Key, uint64_t> gone;
  const auto take = [&](const Holder& from) {
    for (const auto& [key, count] : from.needs) gone[key] += count;
  };
  const auto fits = [&](const Holder& one) {
    return std::all_of(one.needs.begin(), one.needs.end(), [&](const auto& need) {
      const auto taken = gone.find(need.first);
      return (taken == gone.end() ? 0 : taken->second) + need.second <= Total(need.first, pools_.at(need.first));
    });
  };
  for (const size_t number : keeping) {
    if (holds(number)) take(holders_.at(number));
  }
  // Those before it that can be granted come back; the others keep what they claim from those behind. Whoever is not
  // in line yet gets in behind them all.
  for (const size_t number : Line()) {
    if (number == holder) break;
    if (!fits(holders_.at(number))) take(holders_.at(number));
  }
  return fits(holders_.at(holder));
}

std::map<std::pair<std::string, int64_t>, ResourceLedger::Use> ResourceLedger::uses() const {
  std::map<Key, Use> uses;
  for (const auto& [key, pool] : pools_) uses[key] = {Total(key, pool), pool.held};
  return uses;
}

}  // namespace pyinfer
