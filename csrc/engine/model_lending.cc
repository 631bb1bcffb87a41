// SPDX-License-Identifier: Apache-2.0
// model_lending.cc - instances of a Model that a calling thread runs itself.
#include <utility>

#include "engine/model.h"

namespace pyinfer {

void Model::Lend(size_t instance, BatchRunner& runner) {
  // A sequence has its place at one instance, which only the instance's own thread looks after; and who calls does not
  // wait for what others hold.
  if (spec_->sequence || LimitsOf(instance)) return;
  lending_.Offer(instance, &runner);
}

bool Model::WaitForWork(size_t instance) {
  if (!lending_.offers()) return source_->Wait(instance);
  lending_.Rest(instance);
  const bool goes_on = source_->Wait(instance);
  if (!lending_.Resume(instance)) {
    // It was woken for a request, and another instance may be free for it.
    source_->Wake();
    lending_.Await(instance);
  }
  return goes_on;
}

Model::BorrowedBatch Model::Borrow() {
  BorrowedBatch borrowed;
  if (!lending_.offers()) return borrowed;
  borrowed.lent = lending_.Borrow();
  if (!borrowed.lent) return borrowed;
  borrowed.batch = TakeNow(borrowed.lent.instance);
  if (borrowed.batch.empty()) lending_.GiveBack(borrowed.lent);
  return borrowed;
}

void Model::RunHere(BorrowedBatch borrowed) {
  struct GivenBack {
    InstanceLending& lending;
    const InstanceLending::Lent& lent;
    ~GivenBack() { lending.GiveBack(lent); }
  } const given_back{lending_, borrowed.lent};
  borrowed.lent.runner->Run(std::move(borrowed.batch));
}

}  // namespace pyinfer
