// SPDX-License-Identifier: Apache-2.0
#include "engine/call_graph.h"

#include <algorithm>
#include <set>
#include <utility>

namespace pyinfer {
namespace {

// Those of `waits` that are for ever, in their order; none as soon as `asked`, where there is one, is not. A template,
// as the graph keeps the type of its waits to itself.
template <typename Waits, typename Wait>
std::vector<const typename Waits::value_type*> Stuck(const Waits& waits, bool with_yielding, const Wait* asked) {
  using Entry = typename Waits::value_type;
  std::vector<const Entry*> waiting;
  for (const Entry& entry : waits) {
    if (with_yielding || !entry.second.yields) waiting.push_back(&entry);
  }
  // All are taken to wait for ever; those of them that do not are left out, until that frees no more.
  for (;;) {
    std::map<const CallNode*, std::set<size_t>> waiting_of;  // of a model that waits: its instances that do, and count
    std::vector<const LimitedInstance*> keeping;
    for (const Entry* entry : waiting) {
      const Wait* one = &entry->second;
      const CallNode* model = one->caller.model.get();
      std::set<size_t>& numbers = waiting_of[model];
      if (one->yields || model->takes_batches(one->caller.instance)) numbers.insert(one->caller.instance);
      if (one->keeps() != nullptr) keeping.push_back(one->keeps());
    }
    const auto could_execute = [&](const auto& instance) {
      return std::find(keeping.begin(), keeping.end(), instance.get()) == keeping.end() && instance->CouldHold(keeping);
    };
    const auto is_stuck = [&](const CallGraph::Callee& callee) {
      const auto found = waiting_of.find(callee.model.get());
      if (found != waiting_of.end()) {
        if (callee.ordered || found->second.size() >= callee.model->instances()) return true;
      }
      if (keeping.empty()) return false;
      const auto limited = callee.model->Limits();
      return !limited.empty() && std::none_of(limited.begin(), limited.end(), could_execute);
    };
    const auto goes_on = [&](const Entry* entry) {
      const auto& callees = entry->second.callees;
      return std::none_of(callees.begin(), callees.end(), is_stuck);
    };
    const auto left = std::remove_if(waiting.begin(), waiting.end(), goes_on);
    if (left == waiting.end()) return waiting;
    waiting.erase(left, waiting.end());
    const auto is_asked = [&](const Entry* entry) { return &entry->second == asked; };
    if (asked != nullptr && std::none_of(waiting.begin(), waiting.end(), is_asked)) return {};
  }
}

}  // namespace

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

uint64_t CallGraph::EnterYielding(NodePtr model, const std::weak_ptr<const HeldResources>& held,
                                  std::vector<Callee> needed) {
  std::shared_ptr<const LimitedInstance> holder;
  if (const auto now = held.lock()) holder = now->instance();
  std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t number = ++last_;
  // It is taken to be an instance of its own, so that rather too many are believed to wait.
  const size_t instance = SIZE_MAX - static_cast<size_t>(number);
  waits_.emplace(number,
                 Wait{{std::move(model), instance, std::move(holder)}, std::move(needed), /*yields=*/true, held});
  return number;
}

void CallGraph::Reconsider() {
  std::vector<std::weak_ptr<WaitingCall>> refused;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const Wait* const any = nullptr;
    const auto find_stuck = [&] { return Stuck(waits_, /*with_yielding=*/false, any); };
    for (auto stuck = find_stuck(); !stuck.empty(); stuck = find_stuck()) {
      // Who waits behind a ring goes on once the ring is broken: the one to refuse is in it, so that others go on with
      // it; or it is a ring of its own.
      const auto breaks_ring = [&](const auto* entry) {
        auto wait = waits_.extract(entry->first);
        const bool breaks = find_stuck().size() + 1 != stuck.size();
        waits_.insert(std::move(wait));
        return breaks;
      };
      const auto latest = std::find_if(stuck.rbegin(), stuck.rend(), breaks_ring);
      const auto chosen = waits_.extract((latest == stuck.rend() ? stuck.back() : *latest)->first);
      refused.push_back(chosen.mapped().caller.call);
    }
  }
  for (const auto& weak : refused) {
    if (const auto call = weak.lock()) call->Refuse();
  }
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
  return !Stuck(waits_, with_yielding, &wait).empty();
}

}  // namespace pyinfer
