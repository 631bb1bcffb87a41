// SPDX-License-Identifier: Apache-2.0
// quad_heap.h - a heap whose nodes have four children.
//
// Half as deep as std::push_heap's, and the four lie side by side: in a large heap, where each level is a cache miss,
// to pop costs about half.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace pyinfer {

// The least element first, by operator<. Moves elements; keeps no order among equals.
template <typename T>
class QuadHeap {
 public:
  bool empty() const { return items_.empty(); }
  size_t size() const { return items_.size(); }
  // Requires: not empty.
  const T& front() const { return items_.front(); }

  void Push(T item) {
    size_t place = items_.size();
    items_.push_back(std::move(item));
    T pushed = std::move(items_[place]);
    while (place != 0 && pushed < items_[(place - 1) / kChildren]) {
      const size_t parent = (place - 1) / kChildren;
      items_[place] = std::move(items_[parent]);
      place = parent;
    }
    items_[place] = std::move(pushed);
  }

  // Requires: not empty.
  void Pop() {
    T last = std::move(items_.back());
    items_.pop_back();
    if (!items_.empty()) Settle(0, std::move(last));
  }

  // Linear in size().
  template <typename Condition>
  void RemoveIf(Condition condition) {
    items_.erase(std::remove_if(items_.begin(), items_.end(), condition), items_.end());
    for (size_t place = (items_.size() + kChildren - 2) / kChildren; place-- != 0;) {
      T item = std::move(items_[place]);
      Settle(place, std::move(item));
    }
    if (items_.size() < items_.capacity() / 4) items_.shrink_to_fit();
  }

 private:
  static constexpr size_t kChildren = 4;

  // Puts `item` at `place`, which is free, or below.
  void Settle(size_t place, T item) {
    for (;;) {
      const size_t first = place * kChildren + 1;
      if (first >= items_.size()) break;
      const auto begin = items_.begin() + static_cast<std::ptrdiff_t>(first);
      const auto least =
          std::min_element(begin, begin + static_cast<std::ptrdiff_t>(std::min(kChildren, items_.size() - first)));
      if (!(*least < item)) break;
      const auto next = static_cast<size_t>(least - items_.begin());
      items_[place] = std::move(*least);
      place = next;
    }
    items_[place] = std::move(item);
  }

  std::vector<T> items_;
};

}  // namespace pyinfer
