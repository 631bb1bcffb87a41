// SPDX-License-Identifier: Apache-2.0
// step_sink.h - takes what the model of an ensemble's step answers, and asks it for patience: see ensemble_limits.cc.
#pragma once

#include <memory>
#include <utility>

#include "engine/ensemble_run.h"
#include "infer/completion.h"

namespace pyinfer {

class StepSink final : public CompletionSink {
 public:
  explicit StepSink(std::shared_ptr<EnsembleCall> call) : call_(std::move(call)) {}

  void Send(const Request& request, Response response, bool final) noexcept override {
    call_->run->OnResponse(call_, request, std::move(response), final);
  }
  bool cancelled() const noexcept override { return call_->run->cancelled(); }
  bool limits_room() const override { return call_->run->limits_room(); }
  void WaitForRoom(const Producer& producer) const override;
  std::unique_ptr<RoomWait> AskForRoom(const Producer& producer, std::shared_ptr<RoomListener> listener) const override;

 private:
  const std::shared_ptr<EnsembleCall> call_;
};

}  // namespace pyinfer
