// SPDX-License-Identifier: Apache-2.0
#include "engine/call_graph.h"

#include <algorithm>
#include <utility>

namespace pyinfer {

std::optional<uint64_t> CallGraph::Enter(const Caller& caller, std::vector<Node> callees) {
  std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t number = ++last_;
  const auto entered = waits_.emplace(number, Wait{caller, std::move(callees)}).first;
  if (NeedsOneOf(StuckLocked(/*with_yielding=*/false), entered->second)) {
    waits_.erase(entered);
    return std::nullopt;
  }
  return number;
}

uint64_t CallGraph::EnterYielding(Node model, size_t instances, std::vector<Node> needed) {
  std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t number = ++last_;
  // Which instance it is is not known: it is taken to be one of its own, so that rather too many are believed to wait.
  const size_t instance = SIZE_MAX - static_cast<size_t>(number);
  waits_.emplace(number, Wait{{model, instance, instances}, std::move(needed), /*yields=*/true});
  return number;
}

bool CallGraph::ForEver(uint64_t wait) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = waits_.find(wait);
  return found != waits_.end() && NeedsOneOf(StuckLocked(/*with_yielding=*/true), found->second);
}

bool CallGraph::NeedsOneOf(const std::set<Node>& models, const Wait& wait) {
  return std::any_of(wait.callees.begin(), wait.callees.end(), [&](Node callee) { return models.count(callee) != 0; });
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

std::set<CallGraph::Node> CallGraph::StuckLocked(bool with_yielding) const {
  struct Waiting {
    size_t instances = 0;
    std::map<size_t, std::vector<const Wait*>> by_instance;
  };
  std::map<Node, Waiting> models;
  for (const auto& [number, wait] : waits_) {
    if (wait.yields && !with_yielding) continue;
    Waiting& model = models[wait.caller.model];
    model.instances = wait.caller.instances;  // as the last of them saw it
    model.by_instance[wait.caller.instance].push_back(&wait);
  }
  std::set<Node> stuck;
  for (const auto& [node, model] : models) {
    if (model.by_instance.size() >= model.instances) stuck.insert(node);
  }
  // Whoever has an instance that waits only for models that go on goes on as well, until that frees no more.
  const auto goes_on = [&](const std::vector<const Wait*>& waits) {
    return std::none_of(waits.begin(), waits.end(), [&](const Wait* wait) { return NeedsOneOf(stuck, *wait); });
  };
  for (bool freed = true; freed;) {
    freed = false;
    for (auto node = stuck.begin(); node != stuck.end();) {
      const auto& instances = models[*node].by_instance;
      const bool free = std::any_of(instances.begin(), instances.end(),
                                    [&](const auto& instance) { return goes_on(instance.second); });
      node = free ? stuck.erase(node) : std::next(node);
      freed = freed || free;
    }
  }
  return stuck;
}

}  // namespace pyinfer
