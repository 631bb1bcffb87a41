// SPDX-License-Identifier: Apache-2.0
// batch_api.h - what compiled objects ask a Batch for each request, as C functions.
//
// To call them by Python costs more than they do. All require the GIL. Read by C as well: the capsule of this name has
// one pyinfer_batch_api.
#pragma once

#include <Python.h>

#define PYINFER_BATCH_API "pyinfer._core._batch_api"

typedef struct {
  // What the others call the Batch, as long as there is a reference to the object. NULL, without an exception, where it
  // is another object with the methods of one: those are to be called then.
  void* (*handle_of)(PyObject* batch);
  // As Batch.input, with `lazy`. A new reference, or NULL, with an exception.
  PyObject* (*input)(void* handle, Py_ssize_t index, PyObject* name);
  // As Batch.respond, without parameters; -1 with an exception.
  int (*respond)(void* handle, Py_ssize_t index, PyObject* outputs);
  // The number of the data type of an array that is one as it is: of numbers in native byte order, C-contiguous. 0 for
  // all others. Requires: it is a numpy.ndarray.
  int (*plain_type)(PyObject* array);
} pyinfer_batch_api;
