// SPDX-License-Identifier: Apache-2.0
// guest.h - the worker's end: batches come in, answers go out.
//
// What comes in is an ordinary Batch of ordinary requests, whose sinks send their answers to the server. The executor
// sees no difference.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "sched/batch.h"
#include "worker/lane.h"
#include "worker/message.h"

namespace pyinfer {

class Guest : public std::enable_shared_from_this<Guest> {
 public:
  // `requests` and `answers` are the two lanes, as file descriptors; takes them over.
  static StatusOr<std::shared_ptr<Guest>> Make(int requests, int answers);

  // Blocks until there is a batch. An empty one once the server wants no more. For one thread.
  StatusOr<Batch> Next();
  // The number that the server has given to the first request of that batch.
  uint64_t first() const { return first_; }
  // The message that the batch came in. Outputs that lie there, and are large, are sent as they are by then and stay
  // there: nobody may write to them any more when the batch is finished. All others are copied by Finish.
  std::string_view batch() const { return batch_.view(); }
  // Finishes the batch and tells the server so. For the same thread.
  void Finish(Batch& batch);

 private:
  class Sink;
  class Observer;

  Guest(LaneMemoryPtr requests, LaneMemoryPtr answers) : reader_(std::move(requests)), writer_(std::move(answers)) {}
  StatusOr<Batch> Take(const Slice& message);
  void Reschedule(size_t index);
  void Answer(uint64_t request, Response response, bool final);
  // Sends what is pending. Requires: mutex_ is held.
  void FlushLocked();

  LaneReader reader_;
  std::shared_ptr<const ModelSpec> model_;
  // Of the batch that is being executed:
  uint64_t first_ = 0;
  std::vector<const Request*> requests_;
  std::vector<std::weak_ptr<Sink>> sinks_;
  std::shared_ptr<Observer> observer_;
  Slice batch_;

  std::mutex mutex_;
  LaneWriter writer_;
  WorkerAnswers pending_;
};

}  // namespace pyinfer
