// SPDX-License-Identifier: Apache-2.0
// module.cc - pyinfer._core. `pyinfer/_core.pyi` is the written list of what it offers.
#include <pybind11/pybind11.h>

#include "bindings/bind_load.h"
#include "bindings/bytes_view.h"
#include "bindings/instances.h"
#include "bindings/register.h"

PYBIND11_MODULE(_core, module) {
  module.doc() = "The compiled core of pyinfer.";
  pyinfer::BindArrays(module);
  pyinfer::BindBytesView(module);
  pyinfer::BindDlpack(module);
  pyinfer::BindValues(module);
  pyinfer::BindBatch(module);
  pyinfer::BindSharedMemory(module);
  pyinfer::BindTracing(module);
  pyinfer::BindCache(module);
  pyinfer::BindEngine(module);
  pyinfer::BindCalls(module);
  pyinfer::BindConnections(module);
  pyinfer::BindMetrics(module);
  pyinfer::BindGrpc(module);
  pyinfer::BindLoad(module);
  pyinfer::BindWorker(module);
}
