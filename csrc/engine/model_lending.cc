// SPDX-License-Identifier: Apache-2.0
// model_lending.cc - what threads do for instances of a Model that have nothing to do: run them, or begin their
// batches.
#include <utility>

#include "engine/model.h"

namespace pyinfer {

void Model::Lend(size_t instance, BatchRunner& runner) {
  // A sequence has its place at one instance, which only the instance's own thread looks after; and who calls does not
  // wait for what others hold.
  if (spec_->sequence || LimitsOf(instance)) return;
  lending_.Offer(instance, &runner);
}

void Model::LetBegin(size_t instance, BatchStarter& starter) {
  // As above. To pad is work, which who brings the requests has no time for.
  if (spec_->sequence || spec_->padding || LimitsOf(instance)) return;
  lending_.Offer(instance, &starter);
}

void Model::SetInputRoom(std::shared_ptr<InputRoom> room) {
  const auto is_bytes = [](const TensorSpec& input) { return input.dtype == DType::kBytes; };
  // The lengths of BYTES are read more than once.
  const bool is_read = spec_->padding || cache_ || std::any_of(spec_->inputs.begin(), spec_->inputs.end(), is_bytes);
  if (!is_read) std::atomic_store(&input_room_, std::move(room));
}

Model::Found Model::WaitForWork(size_t instance) {
  using Back = InstanceLending::Back;
  if (!lending_.offers()) return source_->Wait(instance) ? Found::kMaybe : Found::kEnd;
  if (WatchForAnswer(instance)) return Found::kBegun;
  lending_.Rest(instance);
  const bool goes_on = source_->Wait(instance);
  if (BatchStarter* const starter = goes_on ? lending_.WatchBegun(instance) : nullptr) {
    source_->Wake();
    WatchOthers(instance, *starter);
  }
  Back back = lending_.Resume(instance);
  // It may have been woken for a request, and another instance may be free for it.
  if (back != Back::kAsItWas) source_->Wake();
  if (back == Back::kLent) back = lending_.Await(instance);
  if (back == Back::kBegun) return Found::kBegun;
  return goes_on ? Found::kMaybe : Found::kEnd;
}

bool Model::WatchForAnswer(size_t instance) {
  using Back = InstanceLending::Back;
  if (!takes_batches(instance)) return false;  // only at the queue it learns that it is to end
  BatchStarter* const starter = lending_.RestToWatch(instance);
  if (starter == nullptr) return false;
  // Who brings requests from now on finds it at rest. What came before, nobody begins for it.
  if (source_->size() == 0) WatchOthers(instance, *starter);
  Back back = lending_.Resume(instance);
  if (back == Back::kLent) back = lending_.Await(instance);
  return back == Back::kBegun;
}

void Model::WatchOthers(size_t instance, BatchStarter& starter) {
  while (starter.Watch() && takes_batches(instance)) {
    if (!lending_.KeepWatching(instance)) return;
  }
}

void Model::BeginBatches() {
  while (const InstanceLending::Lent lent = lending_.BorrowToBegin()) {
    Batch batch = TakeNow(lent.instance);
    if (batch.empty()) {
      lending_.GiveBack(lent);
      if (source_->size() != 0) lending_.WakeWatching();
      return;
    }
    const HeardBy heard = lent.starter->Begin(std::move(batch));
    if (lending_.GiveBackBegun(lent, heard)) source_->Nudge(lent.instance);
  }
}

void Model::TakeAnswers() {
  using Progress = BatchStarter::Progress;
  if (!lending_.offers_starters()) return;
  bool any = false;
  for (size_t least = 0;;) {
    const InstanceLending::Lent lent = lending_.BorrowBegun(least);
    if (!lent) break;
    least = lent.instance + 1;
    const Progress progress = lent.starter->TryComplete();
    if (progress == Progress::kCompleted) {
      lending_.GiveBack(lent);
      any = true;
    } else {
      lending_.GiveBackBegun(lent, progress == Progress::kNone ? HeardBy::kDoorbell : HeardBy::kNobody);
    }
  }
  if (!any) return;
  BeginBatches();
  source_->Wake();
}

Model::BorrowedBatch Model::Borrow() {
  BorrowedBatch borrowed;
  if (!lending_.offers_runners()) return borrowed;
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
