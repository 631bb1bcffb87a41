// SPDX-License-Identifier: Apache-2.0
// session_inputs.cc - where the inputs of a session's batch are, for both sides.
#include "worker/session.h"

namespace pyinfer {

std::vector<Slice> WorkerSession::HandInputs(const std::vector<const Request*>& requests, MessageWriter& writer) const {
  std::vector<Slice> handed;
  for (size_t i = 0; inputs_ && i < requests.size(); ++i) {
    for (const Tensor& input : requests[i]->inputs) {
      if (input.data.size() < kLargeData) continue;
      const auto offset = inputs_->Hand(input.data, number_);
      if (!offset) continue;
      writer.Borrow(input.data.view(), {/*placed=*/true, *offset});
      handed.push_back(input.data);
    }
  }
  return handed;
}

std::optional<Slice> WorkerSession::LendLocked(Place place, uint64_t size) {
  if (batch_ == nullptr || done_) return std::nullopt;
  const auto within = [&](const Slice& bytes, uint64_t offset) -> std::optional<Slice> {
    if (offset > bytes.size() || size > bytes.size() - offset) return std::nullopt;
    return bytes.Sub(offset, size);
  };
  if (!place.placed) {
    if (lent_.empty()) lent_ = Slice(writer_.Lend(message_));
    return within(lent_, place.offset);
  }
  for (size_t i = 0; inputs_ && i < batch_->size(); ++i) {
    if (batch_->detached(i)) continue;
    for (const Tensor& input : batch_->request(i).inputs) {
      const auto begin = inputs_->OffsetOf(input.data.view());
      if (!begin || place.offset < *begin) continue;
      if (auto found = within(input.data, place.offset - *begin)) return found;
    }
  }
  return std::nullopt;
}

}  // namespace pyinfer
