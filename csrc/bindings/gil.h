// SPDX-License-Identifier: Apache-2.0
// gil.h - the only GIL words in the tree, and references that may be dropped without it.
#pragma once

#include <pybind11/pybind11.h>

#include <mutex>
#include <vector>

namespace pyinfer {

using ReleaseGil = pybind11::gil_scoped_release;
using AcquireGil = pybind11::gil_scoped_acquire;

// References to Python objects that core threads have let go of. They can not take the GIL for it (they may hold locks
// that a thread with the GIL waits for), so the references are dropped by the next thread that comes by with the GIL.
class ObjectGraveyard {
 public:
  static ObjectGraveyard& Default() {
    static ObjectGraveyard* graveyard = new ObjectGraveyard;
    return *graveyard;
  }

  // Gives up one reference. Any thread, with or without the GIL.
  void Drop(PyObject* object) {
    if (PyGILState_Check() != 0) {
      Py_DECREF(object);
      return;
    }
    std::lock_guard<std::mutex> lock(mutex_);
    dropped_.push_back(object);
  }

  // Requires: the GIL is held.
  void Sweep() {
    std::vector<PyObject*> dropped;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (dropped_.empty()) return;
      dropped.swap(dropped_);
    }
    for (PyObject* object : dropped) Py_DECREF(object);
  }

 private:
  std::mutex mutex_;
  std::vector<PyObject*> dropped_;
};

}  // namespace pyinfer
