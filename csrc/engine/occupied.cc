// SPDX-License-Identifier: Apache-2.0
#include "engine/occupied.h"

#include <algorithm>
#include <utility>

#include "engine/model.h"

namespace pyinfer {

void OccupiedModels::Add(std::weak_ptr<Model> model) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (joined_.size() == joined_.capacity()) {  // not each time: thousands of models may come and go
    const auto gone = [](const std::weak_ptr<Model>& joined) { return joined.expired(); };
    joined_.erase(std::remove_if(joined_.begin(), joined_.end(), gone), joined_.end());
  }
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
