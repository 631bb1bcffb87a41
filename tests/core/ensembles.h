// SPDX-License-Identifier: Apache-2.0
// ensembles.h - an engine on a clock that stands still, small models that tests execute by hand, ensembles of them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "engine/engine.h"
#include "scheduling.h"

namespace pyinfer::testing {

using Names = std::vector<std::string>;
using Pairs = std::vector<std::pair<std::string, std::string>>;

class Works {
 public:
  Works() = default;
  // On a clock that goes; nobody looks at `clock` then.
  explicit Works(std::shared_ptr<const Clock> going) : engine(std::make_shared<Engine>(std::move(going))) {}

  ~Works() {
    for (auto& [name, versions] : made) {
      for (const auto& model : versions) model->Stop();
    }
  }

  // Tensors of INT32 [-1], batching along the first dimension unless `rows` is 0.
  static ModelSpec Spec(const std::string& name, const Names& inputs, const Names& outputs, int64_t rows = 8) {
    ModelSpec spec = IntModel({rows, rows != 0, {}, 0});
    spec.name = name;
    spec.inputs.clear();
    spec.outputs.clear();
    for (const std::string& input : inputs) spec.inputs.push_back({input, DType::kInt32, {-1}, {}, false});
    for (const std::string& output : outputs) spec.outputs.push_back({output, DType::kInt32, {-1}, {}, false});
    return spec;
  }

  std::shared_ptr<Model> Publish(ModelSpec spec, const std::vector<std::shared_ptr<Model>>& steps = {}) {
    const std::string name = spec.name;
    std::shared_ptr<Model> model = engine->CreateModel(std::move(spec), steps);
    made[name].push_back(model);
    engine->Publish(name, {model}, {});
    return model;
  }
  // One that a test executes, see Take.
  std::shared_ptr<Model> Part(const std::string& name, const Names& inputs = {"IN"}, const Names& outputs = {"OUT"}) {
    return Publish(Spec(name, inputs, outputs));
  }
  // One that answers with its inputs, at once.
  std::shared_ptr<Model> Identity(const std::string& name) {
    std::shared_ptr<Model> model = Part(name);
    CHECK(model->StartNative("identity", {}, {"i"}).ok());
    return model;
  }
  std::shared_ptr<Model> Ensemble(const Names& inputs, const Names& outputs, std::vector<EnsembleStep> steps,
                                  bool decoupled = false, size_t max_inflight_requests = 0) {
    ModelSpec spec = Spec("e", inputs, outputs);
    spec.ensemble = EnsembleOptions{std::move(steps), max_inflight_requests};
    spec.decoupled = decoupled;
    std::vector<std::shared_ptr<Model>> bound;
    for (const EnsembleStep& step : spec.ensemble->steps) bound.push_back(made.at(step.model).back());
    return Publish(std::move(spec), bound);
  }
  // X -> a -> (b, c) -> d -> Y
  std::shared_ptr<Model> Diamond() {
    for (const char* name : {"a", "b", "c"}) Part(name);
    Part("d", {"L", "R"});
    return Ensemble({"X"}, {"Y"},
                    {{"a", -1, {{"IN", "X"}}, {{"OUT", "s"}}},
                     {"b", -1, {{"IN", "s"}}, {{"OUT", "l"}}},
                     {"c", -1, {{"IN", "s"}}, {{"OUT", "r"}}},
                     {"d", -1, {{"L", "l"}, {"R", "r"}}, {{"OUT", "Y"}}}});
  }

  RequestPtr Request(SinkPtr sink, int32_t value = 1, const Names& inputs = {"X"}, const Names& outputs = {}) const {
    auto request = std::make_unique<pyinfer::Request>(std::move(sink));
    request->model_name = "e";
    for (const std::string& input : inputs) request->inputs.push_back({input, DType::kInt32, {1, 1}, Ints({value})});
    for (const std::string& output : outputs) request->requested_outputs.push_back({output});
    return request;
  }
  SinkPtr Ask(int32_t value = 1, const Names& inputs = {"X"}, const Names& outputs = {}) {
    auto sink = std::make_shared<KeepingSink>();
    engine->Submit(Request(sink, value, inputs, outputs));
    engine->Dispatch();
    return sink;
  }

  Model& model(const std::string& name) { return *made.at(name).back(); }
  size_t pending(const std::string& name) { return model(name).pending(); }
  // The batch of a part that is ripe.
  Batch Take(const std::string& name) { return model(name).TakeNow(0); }
  // Answers request `index` of a batch with one number for each output.
  static void Respond(Batch& batch, size_t index, const std::vector<int32_t>& values) {
    std::vector<Tensor> outputs;
    for (size_t i = 0; i < values.size(); ++i) {
      outputs.push_back({batch.model().outputs[i].name, DType::kInt32, {1, 1}, Ints({values[i]})});
    }
    batch.Respond(index, std::move(outputs), {});
  }
  static int32_t In(const Batch& batch, size_t index = 0, size_t input = 0) {
    return IntsOf(batch.request(index).inputs.at(input).data).at(0);
  }
  // Executes what waits for a part: each output is ten times the sum of the inputs, plus `more`.
  void Execute(const std::string& name, int32_t more) {
    Batch batch = Take(name);
    CHECK(!batch.empty());
    for (size_t i = 0; i < batch.size(); ++i) {
      int32_t sum = 0;
      for (size_t input = 0; input < batch.request(i).inputs.size(); ++input) sum += In(batch, i, input);
      Respond(batch, i, std::vector<int32_t>(batch.model().outputs.size(), 10 * sum + more));
    }
  }

  const std::shared_ptr<ManualClock> clock = std::make_shared<ManualClock>(1'000'000);
  const std::shared_ptr<Engine> engine = std::make_shared<Engine>(clock);
  std::map<std::string, std::vector<std::shared_ptr<Model>>> made;
};

inline void CheckOutput(const Response& response, const std::string& name, int32_t value) {
  for (const Tensor& output : response.outputs) {
    if (output.name == name) return CHECK_EQ(IntsOf(output.data).at(0), value);
  }
  CHECK(response.outputs.empty() && "the output is missing");
}

inline void CheckFailed(const SinkPtr& sink, Code code, const std::string& message) {
  CHECK_EQ(sink->message(), message);
  CHECK_EQ(sink->answers.load(), 1);
  CHECK(sink->code() == code);
}

}  // namespace pyinfer::testing
