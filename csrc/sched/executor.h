// SPDX-License-Identifier: Apache-2.0
// executor.h - what runs a batch without an interpreter.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/status.h"
#include "sched/batch.h"

namespace pyinfer {

class Executor {
 public:
  virtual ~Executor() = default;

  // Answers every request of the batch (Respond, RespondPacked, Fail); the caller finishes it. One batch at a time.
  virtual void Execute(Batch& batch) = 0;

  // True where a batch takes no longer than waking a thread would: the thread that received the requests may run it.
  virtual bool quick() const = 0;
};

using ExecutorParameters = std::map<std::string, std::string>;

// An executor of the core by name; InvalidArg for an unknown name or a bad parameter.
StatusOr<std::unique_ptr<Executor>> MakeExecutor(const std::string& kind, const ExecutorParameters& parameters,
                                                 const ModelSpec& model);

}  // namespace pyinfer
