// SPDX-License-Identifier: Apache-2.0
#include "sched/executor.h"

#include <charconv>
#include <chrono>
#include <thread>
#include <utility>

namespace pyinfer {
namespace {

// Returns each input as the output of the same position. The answer holds slices of the received bytes.
class IdentityExecutor final : public Executor {
 public:
  explicit IdentityExecutor(std::chrono::milliseconds delay) : delay_(delay) {}

  void Execute(Batch& batch) override {
    if (delay_.count() != 0) std::this_thread::sleep_for(delay_);
    const ModelSpec& model = batch.model();
    for (size_t i = 0; i < batch.size(); ++i) {
      std::vector<Tensor> outputs;
      outputs.reserve(model.outputs.size());
      for (const Tensor& input : batch.request(i).inputs) {
        const TensorSpec* spec = model.FindInput(input.name);
        if (spec == nullptr) continue;  // made by the scheduler: no client has asked for it
        outputs.push_back(input);
        outputs.back().name = model.outputs[static_cast<size_t>(spec - model.inputs.data())].name;
      }
      batch.Respond(i, std::move(outputs), {});
    }
  }

  bool quick() const override { return delay_.count() == 0; }

 private:
  const std::chrono::milliseconds delay_;
};

StatusOr<std::unique_ptr<Executor>> MakeIdentity(const ExecutorParameters& parameters, const ModelSpec& model) {
  if (model.inputs.size() != model.outputs.size()) {
    return Status::InvalidArg("an identity model must have as many outputs as inputs: '" + model.name + "' has " +
                              std::to_string(model.inputs.size()) + " inputs and " +
                              std::to_string(model.outputs.size()) + " outputs");
  }
  int64_t delay_ms = 0;
  for (const auto& [key, value] : parameters) {
    if (key != "execute_delay_ms") return Status::InvalidArg("unknown parameter '" + key + "' of backend 'identity'");
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), delay_ms);
    if (error != std::errc() || end != value.data() + value.size() || delay_ms < 0) {
      return Status::InvalidArg("parameter 'execute_delay_ms' must be a non-negative integer, got '" + value + "'");
    }
  }
  return {std::make_unique<IdentityExecutor>(std::chrono::milliseconds(delay_ms))};
}

}  // namespace

StatusOr<std::unique_ptr<Executor>> MakeExecutor(const std::string& kind, const ExecutorParameters& parameters,
                                                 const ModelSpec& model) {
  if (kind == "identity") return MakeIdentity(parameters, model);
  return Status::InvalidArg("there is no native executor '" + kind + "'");
}

}  // namespace pyinfer
