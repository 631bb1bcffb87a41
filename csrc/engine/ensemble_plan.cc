// SPDX-License-Identifier: Apache-2.0
#include "engine/ensemble_plan.h"

#include <algorithm>
#include <utility>

namespace pyinfer {

EnsemblePlan::EnsemblePlan(const ModelSpec& spec, const std::vector<std::shared_ptr<Model>>& bound) {
  for (const TensorSpec& input : spec.inputs) inputs.push_back(Intern(input.name));
  for (const TensorSpec& output : spec.outputs) outputs.push_back(Intern(output.name));
  for (const EnsembleStep& given : spec.ensemble->steps) {
    const size_t number = steps.size();
    Step step;
    step.model = given.model;
    step.version = given.version;
    if (number < bound.size()) step.bound = bound[number];
    for (const auto& [name, tensor] : given.inputs) step.inputs.push_back({name, Intern(tensor)});
    for (const auto& [name, tensor] : given.outputs) step.outputs.push_back({name, Intern(tensor)});
    for (const Port& port : step.inputs) {
      Node& node = tensors[port.tensor];
      ++node.ports;
      if (node.readers.empty() || node.readers.back() != number) node.readers.push_back(number);
    }
    steps.push_back(std::move(step));
  }
  whole_ = Trace(outputs);
}

size_t EnsemblePlan::Tensor(const std::string& name) const {
  const auto named = [&](const Node& node) { return node.name == name; };
  return static_cast<size_t>(std::find_if(tensors.begin(), tensors.end(), named) - tensors.begin());
}

size_t EnsemblePlan::Intern(const std::string& name) {
  const size_t found = Tensor(name);
  if (found == tensors.size()) tensors.push_back({name, {}, 0});
  return found;
}

EnsemblePlan::Demand EnsemblePlan::DemandOf(const Request& request) const {
  if (request.requested_outputs.empty()) return whole_;
  std::vector<size_t> wanted;
  for (const RequestedOutput& output : request.requested_outputs) wanted.push_back(Tensor(output.name));
  return Trace(std::move(wanted));
}

std::vector<size_t> EnsemblePlan::StepsBehind(size_t step) const {
  std::vector<size_t> behind;
  std::vector<char> seen(steps.size());
  std::vector<size_t> from = {step};
  while (!from.empty()) {
    const size_t at = from.back();
    from.pop_back();
    for (const Port& port : steps[at].outputs) {
      for (const size_t reader : tensors[port.tensor].readers) {
        if (std::exchange(seen[reader], char{1})) continue;
        behind.push_back(reader);
        from.push_back(reader);
      }
    }
  }
  return behind;
}

EnsemblePlan::Demand EnsemblePlan::Trace(std::vector<size_t> wanted) const {
  Demand demand{std::vector<char>(steps.size()), std::vector<char>(tensors.size()), wanted};
  for (const size_t tensor : wanted) demand.tensors[tensor] = 1;
  std::vector<char> seen = demand.tensors;
  while (!wanted.empty()) {
    const size_t tensor = wanted.back();
    wanted.pop_back();
    for (size_t i = 0; i < steps.size(); ++i) {
      const auto makes = [&](const Port& port) { return port.tensor == tensor; };
      if (demand.steps[i] || std::none_of(steps[i].outputs.begin(), steps[i].outputs.end(), makes)) continue;
      demand.steps[i] = 1;
      for (const Port& port : steps[i].inputs) {
        if (!std::exchange(seen[port.tensor], char{1})) wanted.push_back(port.tensor);
      }
    }
  }
  return demand;
}

}  // namespace pyinfer
