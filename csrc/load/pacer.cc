// SPDX-License-Identifier: Apache-2.0
#include "load/pacer.h"

#include <cmath>
#include <utility>

#include "load/random.h"

namespace pyinfer {

Pacer::Pacer(std::shared_ptr<const Schedule> schedule, TimeNs start, size_t first, size_t of)
    : schedule_(std::move(schedule)), start_(start), stride_(of), random_(schedule_->seed) {
  const bool listed = schedule_->kind == Schedule::Kind::kIntervals || schedule_->kind == Schedule::Kind::kOnce;
  done_ = listed && schedule_->times.empty();
  if (done_) return;
  next_ = start_ + (schedule_->kind == Schedule::Kind::kOnce ? schedule_->times[0] : 0);
  for (size_t i = 0; i < first && !done_; ++i) Advance();
}

void Pacer::Advance() {
  ++index_;
  switch (schedule_->kind) {
    case Schedule::Kind::kConstant:
      // From the number, so that rounding does not add up.
      next_ = start_ + static_cast<TimeNs>(std::llround(static_cast<double>(index_ - index_ % schedule_->burst) * 1e9 /
                                                        schedule_->rate));
      return;
    case Schedule::Kind::kPoisson:
      if (index_ % schedule_->burst != 0) return;
      elapsed_ -= std::log1p(-ToUniform(NextRandom(random_))) * schedule_->burst / schedule_->rate;
      next_ = start_ + static_cast<TimeNs>(elapsed_ * 1e9);
      return;
    case Schedule::Kind::kIntervals:
      base_ += schedule_->times[(index_ - 1) % schedule_->times.size()];
      next_ = start_ + base_;
      return;
    case Schedule::Kind::kOnce:
      done_ = index_ >= schedule_->times.size();
      if (!done_) next_ = start_ + schedule_->times[index_];
      return;
  }
}

void Pacer::Pop() {
  for (size_t i = 0; i < stride_ && !done_; ++i) Advance();
}

uint64_t Pacer::Due(TimeNs now, uint64_t most) const {
  Pacer ahead = *this;
  uint64_t due = 0;
  for (; due < most && !ahead.done_ && ahead.next_ <= now; ++due) ahead.Pop();
  return due;
}

}  // namespace pyinfer
