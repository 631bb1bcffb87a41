// SPDX-License-Identifier: Apache-2.0
// triton_identity.c - the identity backend for the real tritonserver: answers each request with its own input.
//
// The peer's wheel carries the Python backend only, whose process hop would hide what Triton's front end and scheduler
// cost. This is the least that a native backend can do: one copy per request, one response, the statistics. It is built
// by perf/peers.py, linked to nothing: tritonserver itself offers the symbols when it loads the library.
//
// Only what is used of Triton's public C interface is declared, with its documented names and numbers.
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

typedef struct Error Error;
typedef struct Instance Instance;
typedef struct Request Request;
typedef struct Response Response;
typedef struct Input Input;
typedef struct Output Output;

enum { kMemoryCpu = 0, kResponseFinal = 1, kReleaseAll = 1, kErrorUnsupported = 5 };

Error* TRITONSERVER_ErrorNew(int code, const char* message);
Error* TRITONBACKEND_RequestInputByIndex(Request*, uint32_t index, Input**);
Error* TRITONBACKEND_RequestRelease(Request*, uint32_t flags);
Error* TRITONBACKEND_InputProperties(Input*, const char** name, int* datatype, const int64_t** shape, uint32_t* rank,
                                     uint64_t* byte_size, uint32_t* buffers);
Error* TRITONBACKEND_InputBuffer(Input*, uint32_t index, const void** buffer, uint64_t* byte_size, int* memory,
                                 int64_t* memory_id);
Error* TRITONBACKEND_ResponseNew(Response**, Request*);
Error* TRITONBACKEND_ResponseOutput(Response*, Output**, const char* name, int datatype, const int64_t* shape,
                                    uint32_t rank);
Error* TRITONBACKEND_ResponseSend(Response*, uint32_t flags, Error*);
Error* TRITONBACKEND_OutputBuffer(Output*, void** buffer, uint64_t byte_size, int* memory, int64_t* memory_id);
Error* TRITONBACKEND_ModelInstanceReportStatistics(Instance*, Request*, bool success, uint64_t start,
                                                   uint64_t compute_start, uint64_t compute_end, uint64_t end);
Error* TRITONBACKEND_ModelInstanceReportBatchStatistics(Instance*, uint64_t batch, uint64_t start,
                                                        uint64_t compute_start, uint64_t compute_end, uint64_t end);

static uint64_t Now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// Copies the only input of `request` into the output OUTPUT0 of `response`; adds the rows of the request to `rows`.
static Error* Copy(Request* request, Response* response, uint64_t* rows) {
  Input* input = NULL;
  Output* output = NULL;
  const char* name = NULL;
  const int64_t* shape = NULL;
  int datatype = 0, memory = kMemoryCpu;
  int64_t memory_id = 0;
  uint32_t rank = 0, buffers = 0;
  uint64_t byte_size = 0;
  void* to = NULL;
  Error* error = TRITONBACKEND_RequestInputByIndex(request, 0, &input);
  if (!error) error = TRITONBACKEND_InputProperties(input, &name, &datatype, &shape, &rank, &byte_size, &buffers);
  if (!error) error = TRITONBACKEND_ResponseOutput(response, &output, "OUTPUT0", datatype, shape, rank);
  if (!error) error = TRITONBACKEND_OutputBuffer(output, &to, byte_size, &memory, &memory_id);
  if (!error && memory != kMemoryCpu) error = TRITONSERVER_ErrorNew(kErrorUnsupported, "CPU memory only");
  uint64_t done = 0;
  for (uint32_t i = 0; !error && i < buffers; ++i) {
    const void* from = NULL;
    uint64_t size = 0;
    error = TRITONBACKEND_InputBuffer(input, i, &from, &size, &memory, &memory_id);
    if (!error && memory != kMemoryCpu) error = TRITONSERVER_ErrorNew(kErrorUnsupported, "CPU memory only");
    if (!error) memcpy((char*)to + done, from, size);
    done += size;
  }
  if (!error && rank > 0) *rows += (uint64_t)shape[0];
  return error;
}

Error* TRITONBACKEND_ModelInstanceExecute(Instance* instance, Request** requests, const uint32_t count) {
  const uint64_t start = Now();
  uint64_t rows = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t request_start = Now();
    Response* response = NULL;
    Error* error = TRITONBACKEND_ResponseNew(&response, requests[i]);
    if (!error) error = Copy(requests[i], response, &rows);
    const bool good = error == NULL;
    if (response) TRITONBACKEND_ResponseSend(response, kResponseFinal, error);
    const uint64_t end = Now();
    TRITONBACKEND_ModelInstanceReportStatistics(instance, requests[i], good, request_start, request_start, end, end);
    TRITONBACKEND_RequestRelease(requests[i], kReleaseAll);
  }
  const uint64_t end = Now();
  TRITONBACKEND_ModelInstanceReportBatchStatistics(instance, rows ? rows : count, start, start, end, end);
  return NULL;
}
