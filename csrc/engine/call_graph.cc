// SPDX-License-Identifier: Apache-2.0
#include "engine/call_graph.h"

#include <algorithm>
#include <set>
#include <utility>

namespace pyinfer {

std::optional<uint64_t> CallGraph::Enter(Caller caller, std::vector<Callee> callees) {
  std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t number = ++last_;
  const auto entered = waits_.emplace(number, Wait{std::move(caller), std::move(callees), false, {}}).first;
  if (ForEverLocked(entered->second, /*with_yielding=*/false)) {
    waits_.erase(entered);
    return std::nullopt;
  }
  return number;
}

uint64_t CallGraph::EnterYielding(Node model, size_t instances, const std::weak_ptr<const HeldResources>& held,
                                  std::vector<Callee> needed) {
  std::shared_ptr<const LimitedInstance> holder;
  if (const auto now = held.lock()) holder = now->instance();
  std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t number = ++last_;
  // Which instance it is is not known: it is taken to be one of its own, so that rather too many are believed to wait.
  const size_t instance = SIZE_MAX - static_cast<size_t>(number);
  waits_.emplace(number,
                 Wait{{model, instance, instances, std::move(holder)}, std::move(needed), /*yields=*/true, held});
  return number;
}

bool CallGraph::ForEver(uint64_t wait) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = waits_.find(wait);
  return found != waits_.end() && ForEverLocked(found->second, /*with_yielding=*/true);
}

size_t CallGraph::yielding() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<size_t>(
      std::count_if(waits_.begin(), waits_.end(), [](const auto& entry) { return entry.second.yields; }));
}

void CallGraph::Leave(uint64_t wait) {
  std::lock_guard<std::mutex> lock(mutex_);
  waits_.erase(wait);
}

bool CallGraph::ForEverLocked(const Wait& wait, bool with_yielding) const {
  // Most calls are to models that wait for nothing themselves, while nobody keeps anything.
  const auto concerns = [&](const auto& entry) {
    const Wait& one = entry.second;
    const auto is_its = [&](const Callee& callee) { return callee.model == one.caller.model; };
    return one.keeps() != nullptr || std::any_of(wait.callees.begin(), wait.callees.end(), is_its);
  };
  if (std::none_of(waits_.begin(), waits_.end(), concerns)) return false;
  std::vector<const Wait*> waiting;
  for (const auto& [number, one] : waits_) {
    if (with_yielding || !one.yields) waiting.push_back(&one);
  }
  // All are taken to wait for ever; those of them that do not are left out, until that frees no more.
  for (;;) {
    std::map<Node, std::pair<size_t, std::set<size_t>>> instances;  // of a model: how many there are, those that wait
    std::vector<const LimitedInstance*> keeping;
    for (const Wait* one : waiting) {
      auto& [count, numbers] = instances[one->caller.model];
      count = one->caller.instances;  // as the last of them saw it
      numbers.insert(one->caller.instance);
      if (one->keeps() != nullptr) keeping.push_back(one->keeps());
    }
    const auto could_execute = [&](const auto& instance) {
      return std::find(keeping.begin(), keeping.end(), instance.get()) == keeping.end() && instance->CouldHold(keeping);
    };
    const auto is_stuck = [&](const Callee& callee) {
      const auto found = instances.find(callee.model);
      if (found != instances.end()) {
        const auto& [count, numbers] = found->second;
        if (callee.ordered || numbers.size() >= count) return true;
      }
      return !keeping.empty() && !callee.limited.empty() &&
             std::none_of(callee.limited.begin(), callee.limited.end(), could_execute);
    };
    const auto goes_on = [&](const Wait* one) {
      return std::none_of(one->callees.begin(), one->callees.end(), is_stuck);
    };
    const auto left = std::remove_if(waiting.begin(), waiting.end(), goes_on);
    if (left == waiting.end()) return true;
    waiting.erase(left, waiting.end());
    if (std::find(waiting.begin(), waiting.end(), &wait) == waiting.end()) return false;
  }
}

}  // namespace pyinfer
