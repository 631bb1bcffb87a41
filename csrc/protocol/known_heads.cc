// SPDX-License-Identifier: Apache-2.0
#include "protocol/known_heads.h"

#include <utility>

namespace pyinfer {

void KnownHeads::Add(std::string_view bytes, std::shared_ptr<const HttpConnection::InferHead> head, size_t length) {
  if (!head->plain() || Find(bytes) != nullptr) return;
  if (young_.size() >= capacity_) old_ = std::exchange(young_, {});
  auto known = std::make_unique<Known>(Known{std::string(bytes), std::move(head), length});
  const std::string_view key = known->bytes;
  young_.emplace(key, std::move(known));
}

const KnownHeads::Known* KnownHeads::Find(std::string_view bytes) {
  if (const auto found = young_.find(bytes); found != young_.end()) return found->second.get();
  const auto found = old_.find(bytes);
  if (found == old_.end()) return nullptr;
  std::unique_ptr<Known> known = std::move(found->second);
  old_.erase(found);
  if (young_.size() >= capacity_) old_ = std::exchange(young_, {});
  const std::string_view key = known->bytes;
  return young_.emplace(key, std::move(known)).first->second.get();
}

}  // namespace pyinfer
