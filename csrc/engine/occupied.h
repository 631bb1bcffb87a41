// SPDX-License-Identifier: Apache-2.0
// occupied.h - the models of an engine that may have requests. Any thread.
//
// Who looks after cancellations and time in queues goes through these alone: of ten thousand models, few have any.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

namespace pyinfer {

class Model;

class OccupiedModels {
 public:
  // Requires: `model` has joined.
  void Add(std::weak_ptr<Model> model);

  // Those that have requests. The others leave, to join again with their next request.
  std::vector<std::shared_ptr<Model>> Find();

 private:
  std::mutex mutex_;
  std::vector<std::weak_ptr<Model>> joined_;
};

}  // namespace pyinfer
