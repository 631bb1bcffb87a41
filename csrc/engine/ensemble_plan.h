// SPDX-License-Identifier: Apache-2.0
// ensemble_plan.h - the graph of an ensemble: which step makes which tensor for whom. Immutable.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "infer/model_spec.h"
#include "infer/request.h"

namespace pyinfer {

class Model;

struct EnsemblePlan {
  // A tensor of a step's model, and the ensemble's tensor (an index into `tensors`) that it is.
  struct Port {
    std::string name;
    size_t tensor = 0;
  };
  struct Step {
    std::string model;
    int64_t version = -1;
    std::vector<Port> inputs, outputs;
    // The version that the step was found to mean when the ensemble was made. While requests are on their way it is
    // there for them, although its name may be gone.
    std::weak_ptr<Model> bound;
  };
  struct Node {
    std::string name;
    std::vector<size_t> readers;  // steps, ascending
    size_t ports = 0;             // inputs of steps that it is
  };
  // What one request needs of the graph.
  struct Demand {
    std::vector<char> steps;      // by step: it leads to an output that was asked for
    std::vector<char> tensors;    // by tensor: it was asked for
    std::vector<size_t> outputs;  // those tensors, each once
  };

  // Requires: spec.ensemble. `bound` has a model for each step, or is empty.
  EnsemblePlan(const ModelSpec& spec, const std::vector<std::shared_ptr<Model>>& bound);

  size_t Tensor(const std::string& name) const;
  Demand DemandOf(const Request& request) const;
  // Those that something made by `step` leads to, without itself.
  std::vector<size_t> StepsBehind(size_t step) const;

  std::vector<Step> steps;
  std::vector<Node> tensors;
  std::vector<size_t> inputs, outputs;  // of the ensemble, in the order of its configuration

 private:
  size_t Intern(const std::string& name);
  Demand Trace(std::vector<size_t> wanted) const;

  Demand whole_;  // of a request for all outputs
};

}  // namespace pyinfer
