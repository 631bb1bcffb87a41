// SPDX-License-Identifier: Apache-2.0
// register.h - what each file of the bindings adds to the module, and the objects that they hand to each other.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <utility>

#include "engine/engine.h"
#include "infer/call_parent.h"

namespace pyinfer {

// A model as Python holds it: stops it when the last Python reference goes, because the last reference of all may go on
// one of the model's own threads, which can not join itself.
class ModelHandle {
 public:
  explicit ModelHandle(std::shared_ptr<Model> model) : model_(std::move(model)) {}
  ~ModelHandle();
  ModelHandle(const ModelHandle&) = delete;
  ModelHandle& operator=(const ModelHandle&) = delete;

  const std::shared_ptr<Model>& model() const { return model_; }

 private:
  const std::shared_ptr<Model> model_;
};

// A request on whose behalf calls are made, as Python holds it.
struct ParentHandle {
  CallParent parent;
  uint64_t number = 0;  // in a worker process: what the server knows the request by
};

// A batch as Python holds it; finished by whoever took it.
struct BatchHandle {
  explicit BatchHandle(Batch taken) : batch(std::move(taken)) {}
  Batch batch;
  // Where an instance executes it: the one that waits when the executor waits.
  std::shared_ptr<Model> model;
  size_t instance = 0;
  // In a worker process: the number that the server has given to the first request.
  uint64_t first = 0;
};

void BindArrays(pybind11::module_& module);
void BindDlpack(pybind11::module_& module);
// Raises ValueError where the padding of `model` does not fit it.
void CheckPadding(const ModelSpec& model);

void BindPadding(pybind11::module_& module);
void BindValues(pybind11::module_& module);
void BindEngine(pybind11::module_& module);
void BindBatch(pybind11::module_& module);
void BindCalls(pybind11::module_& module);
void BindSharedMemory(pybind11::module_& module);
void BindConnections(pybind11::module_& module);
void BindMetrics(pybind11::module_& module);
void BindCache(pybind11::module_& module);
void BindTracing(pybind11::module_& module);
void BindGrpc(pybind11::module_& module);

}  // namespace pyinfer
