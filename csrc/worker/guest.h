// SPDX-License-Identifier: Apache-2.0
// guest.h - the worker's end: batches come in, answers go out.
//
// What comes in is an ordinary Batch of ordinary requests, whose sinks send their answers to the server. The executor
// sees no difference.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/doorbell.h"
#include "base/status.h"
#include "sched/batch.h"
#include "worker/lane.h"
#include "worker/message.h"

namespace pyinfer {

class Guest : public std::enable_shared_from_this<Guest> {
 public:
  // `requests` and `answers` are the two lanes, `inputs` is the memory of placed inputs (-1: there are none),
  // `doorbell` the end that rings (-1: there is none), as file descriptors; takes them over.
  static StatusOr<std::shared_ptr<Guest>> Make(int requests, int answers, int inputs = -1, int doorbell = -1);

  // Blocks until there is a batch. An empty one once the server wants no more. For one thread.
  StatusOr<Batch> Next();
  // The number that the server has given to the first request of that batch.
  uint64_t first() const { return first_; }
  // Where the inputs of that batch are. Outputs that lie there, and are large, are sent as they are by then and stay
  // there: nobody may write to them any more when the batch is finished. All others are copied by Finish.
  const std::vector<Slice>& places() const { return places_; }
  // Finishes the batch and tells the server so. For the same thread.
  void Finish(Batch& batch);

 private:
  class Sink;
  class Observer;

  Guest(LaneMemoryPtr requests, LaneMemoryPtr answers, LaneMemoryPtr inputs, std::unique_ptr<DoorbellRinger> doorbell)
      : reader_(std::move(requests)),
        inputs_(std::move(inputs)),
        writer_(std::move(answers)),
        doorbell_(std::move(doorbell)) {}
  StatusOr<Batch> Take(const Slice& message);
  std::optional<Slice> TakePlaced(Place place, uint64_t size);
  void Reschedule(size_t index);
  void Answer(uint64_t request, Response response, bool final);
  // Sends what is pending. Requires: mutex_ is held.
  void FlushLocked();

  LaneReader reader_;
  const LaneMemoryPtr inputs_;  // null where there are none
  std::shared_ptr<const ModelSpec> model_;
  // Of the batch that is being executed:
  uint64_t first_ = 0;
  std::vector<const Request*> requests_;
  std::vector<std::weak_ptr<Sink>> sinks_;
  std::shared_ptr<Observer> observer_;
  std::vector<Slice> places_;  // the message, and the placed inputs

  std::mutex mutex_;
  LaneWriter writer_;
  WorkerAnswers pending_;
  const std::unique_ptr<const DoorbellRinger> doorbell_;
  bool rings_ = false;  // for the answers of the batch that is being executed
};

}  // namespace pyinfer
