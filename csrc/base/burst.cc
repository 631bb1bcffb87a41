// SPDX-License-Identifier: Apache-2.0
#include "base/burst.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace pyinfer {
namespace {

thread_local size_t depth = 0;
thread_local std::vector<std::shared_ptr<Deferred>> todo;

}  // namespace

Burst::Burst() noexcept { ++depth; }

Burst::~Burst() {
  if (depth == 1) {
    // `depth` stays: what runs here is part of the burst.
    while (!todo.empty()) {
      const std::shared_ptr<Deferred> work = std::move(todo.front());
      todo.erase(todo.begin());
      work->RunDeferred();
    }
  }
  --depth;
}

void Burst::AtEnd(std::shared_ptr<Deferred> work) {
  const Burst burst;
  if (std::find(todo.begin(), todo.end(), work) == todo.end()) todo.push_back(std::move(work));
}

}  // namespace pyinfer
