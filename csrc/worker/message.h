// SPDX-License-Identifier: Apache-2.0
// message.h - what a server and a worker process say to each other, as bytes and back.
//
//   server -> worker   kModel, before the first batch; kBatch; kStop
//   worker -> server   kAnswers: of any requests, in order; the last of a batch says which batch is done
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "infer/model_spec.h"
#include "infer/request.h"
#include "infer/response.h"
#include "memory/buffer.h"
#include "worker/pieces.h"
#include "worker/signs.h"

namespace pyinfer {

// One response to a request that was in a batch.
struct WorkerAnswer {
  uint64_t request = 0;  // the number that the server gave it
  bool apart = false;    // by a sender of its own, not with its batch
  bool final = false;
  Response response;
};

struct WorkerAnswers {
  std::vector<WorkerAnswer> answers;
  bool done = false;                  // with the batch that was executed, of which all is said but this:
  std::vector<uint64_t> detached;     // will be answered apart
  std::vector<uint64_t> rescheduled;  // are to be executed once more
};

// A batch of requests, numbered from `first` on.
struct WorkerBatch {
  uint64_t first = 0;
  bool has_states = false;
  bool rings = false;  // the doorbell is to be rung for each of its answers
  std::vector<RequestPtr> requests;
};

// Adds the requests of a batch, numbered from `first` on. The data begin with the RequestSigns of each.
void WriteBatch(MessageWriter& writer, const std::vector<const Request*>& requests, uint64_t first, bool has_states,
                bool rings);
void WriteModel(MessageWriter& writer, const ModelSpec& model);
void WriteAnswers(MessageWriter& writer, const WorkerAnswers& answers);

// The readers of what another process has written; InvalidArg where it makes no sense.
// What executing needs of a model, which is relayed (infer/relayed.h).
StatusOr<std::shared_ptr<const ModelSpec>> ReadModel(const Slice& message);
// Their tensors lie in `message`, or where `lender` says. `make_sink` is told the number of a request.
using SinkMaker = std::function<std::shared_ptr<CompletionSink>(uint64_t number, const RequestSigns& signs)>;
StatusOr<WorkerBatch> ReadBatch(const Slice& message, const std::shared_ptr<const ModelSpec>& model,
                                const SinkMaker& make_sink, Lender lender = nullptr);
// Tensors of fixed size may lie in the message, where the worker could still write to them, if they are large; BYTES,
// whose lengths are read more than once, never do. The same holds for those among the inputs of the batch that they
// answer, which `lender` has.
StatusOr<WorkerAnswers> ReadAnswers(const Slice& message, Lender lender = nullptr);

}  // namespace pyinfer
