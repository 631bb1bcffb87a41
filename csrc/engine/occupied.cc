// SPDX-License-Identifier: Apache-2.0
#include "engine/occupied.h"

#include <utility>

#include "engine/model.h"

namespace pyinfer {

void OccupiedModels::Add(std::weak_ptr<Model> model) {
  std::lock_guard<std::mutex> lock(mutex_);
  joined_.push_back(std::move(model));
}

std::vector<std::shared_ptr<Model>> OccupiedModels::Find() {
  std::vector<std::shared_ptr<Model>> all;
  // Outlive the lock: a model's last owner answers what it has left, and that may give others requests.
  std::vector<std::shared_ptr<Model>> idle;
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::weak_ptr<Model>> stay;
  for (const auto& weak : joined_) {
    std::shared_ptr<Model> model = weak.lock();
    if (!model) continue;
    if (model->LeaveOccupied()) {
      idle.push_back(std::move(model));
      continue;
    }
    if (model->JoinOccupied()) stay.push_back(weak);  // otherwise a push is just about to add it anew
    all.push_back(std::move(model));
  }
  joined_.swap(stay);
  return all;
}

}  // namespace pyinfer
