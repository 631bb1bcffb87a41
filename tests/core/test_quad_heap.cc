// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <random>
#include <set>

#include "base/quad_heap.h"
#include "check.h"

namespace pyinfer {
namespace {

TEST(QuadHeap, IsASortedSetToWhoLooksAtItsFront) {
  std::minstd_rand random(7);
  QuadHeap<int> heap;
  std::multiset<int> kept;
  for (int round = 0; round < 20'000; ++round) {
    // It grows and shrinks by turns.
    if (random() % 100 < (round / 2000 % 2 == 0 ? 60U : 40U) || kept.empty()) {
      const int item = static_cast<int>(random() % 500);
      heap.Push(item);
      kept.insert(item);
    } else {
      heap.Pop();
      kept.erase(kept.begin());
    }
    if (round % 1000 == 999) {
      const int residue = static_cast<int>(random() % 3);
      const auto condition = [&](int item) { return item % 3 == residue; };
      heap.RemoveIf(condition);
      for (auto item = kept.begin(); item != kept.end();) item = condition(*item) ? kept.erase(item) : std::next(item);
    }
    CHECK_EQ(heap.size(), kept.size());
    CHECK(kept.empty() ? heap.empty() : heap.front() == *kept.begin());
  }
}

TEST(QuadHeap, OfEachSizeComesOutInOrder) {
  for (int size = 0; size < 70; ++size) {
    QuadHeap<int> pushed, rebuilt;
    for (int i = 0; i < size; ++i) pushed.Push(i * 37 % 71);
    for (int i = 0; i < 2 * size; ++i) rebuilt.Push(i * 37 % 71 + (i < size ? 0 : 1000));
    rebuilt.RemoveIf([](int item) { return item >= 1000; });
    int last = -1;
    for (; !pushed.empty(); pushed.Pop(), rebuilt.Pop()) {
      CHECK(pushed.front() > last);
      CHECK_EQ(rebuilt.front(), pushed.front());
      last = pushed.front();
    }
    CHECK(rebuilt.empty());
  }
}

}  // namespace
}  // namespace pyinfer
