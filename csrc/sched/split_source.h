// SPDX-License-Identifier: Apache-2.0
// split_source.h - requests of more rows than a batch may have, executed in parts.
//
// Such a request is cut along its first dimension, without copying, into parts that each fit a batch. They wait and are
// batched like any other request, under the same policy; their outputs are put together, copied once, in the order of
// the rows, and make the one answer. The first part that fails answers the request; those that still wait are then
// cancelled. The request is counted once, as one of all its rows; executions are counted as they happen.
//
// A BatchSource in front of another one, which has the parts and all other requests.
#pragma once

#include <memory>
#include <optional>

#include "sched/batch_source.h"

namespace pyinfer {

class SplitSource final : public BatchSource {
 public:
  // Requires: model->split_large.
  SplitSource(std::unique_ptr<BatchSource> parts, std::shared_ptr<const ModelSpec> model);

  size_t AddInstance() override { return parts_->AddInstance(); }
  void RemoveInstance(size_t instance) override { parts_->RemoveInstance(instance); }
  void TakeTurn(Request& request) override { parts_->TakeTurn(request); }
  bool Push(RequestPtr request) override;
  bool Wake() override { return parts_->Wake(); }
  bool Wait(size_t instance) override { return parts_->Wait(instance); }
  void Nudge(size_t instance) override { parts_->Nudge(instance); }
  Batch Take(size_t instance, TimeNs now) override { return parts_->Take(instance, now); }
  TimeNs RipeAt(size_t instance, TimeNs now) const override { return parts_->RipeAt(instance, now); }
  void Reap() override { parts_->Reap(); }
  TimeNs Expire(TimeNs now) override { return parts_->Expire(now); }
  void Close() override { parts_->Close(); }
  void FailAll(const Status& status) override { parts_->FailAll(status); }
  // Parts count each.
  size_t size() const override { return parts_->size(); }
  void NoteExecuted(int64_t rows, TimeNs picked, TimeNs over) noexcept override {
    parts_->NoteExecuted(rows, picked, over);
  }
  std::optional<SloReport> Slo() const override { return parts_->Slo(); }

 private:
  const std::shared_ptr<BatchSource> parts_;
  const std::shared_ptr<const ModelSpec> model_;
};

}  // namespace pyinfer
