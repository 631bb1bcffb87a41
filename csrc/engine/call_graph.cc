// SPDX-License-Identifier: Apache-2.0
#include "engine/call_graph.h"

#include <algorithm>
#include <utility>

namespace pyinfer {

std::optional<uint64_t> CallGraph::Enter(const Caller& caller, std::vector<Node> callees) {
  std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t number = ++last_;
  const auto entered = waits_.emplace(number, Wait{caller, std::move(callees)}).first;
  const std::set<Node> stuck = StuckLocked();
  const auto& needed = entered->second.callees;
  if (std::any_of(needed.begin(), needed.end(), [&](Node callee) { return stuck.count(callee) != 0; })) {
    waits_.erase(entered);
    return std::nullopt;
  }
  return number;
}

void CallGraph::Leave(uint64_t wait) {
  std::lock_guard<std::mutex> lock(mutex_);
  waits_.erase(wait);
}

std::set<CallGraph::Node> CallGraph::StuckLocked() const {
  struct Waiting {
    size_t instances = 0;
    std::map<size_t, std::vector<const Wait*>> by_instance;
  };
  std::map<Node, Waiting> models;
  for (const auto& [number, wait] : waits_) {
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
    return std::none_of(waits.begin(), waits.end(), [&](const Wait* wait) {
      return std::any_of(wait->callees.begin(), wait->callees.end(),
                         [&](Node callee) { return stuck.count(callee) != 0; });
    });
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
