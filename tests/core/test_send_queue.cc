// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>

#include "check.h"
#include "wire/send_queue.h"

namespace pyinfer {
namespace {

std::string Bytes(const Output& output) {
  std::string bytes;
  for (const Slice& piece : output.pieces()) bytes += piece.view();
  return bytes += output.tail();
}

std::string Take(SendQueue& queue, size_t count) {
  Output output;
  queue.MoveTo(output, count);
  return Bytes(output);
}

// Small text, a large slice that is shared, and a little text behind it.
Output Mixed(char c, bool tail) {
  Output output(std::string(10, c));
  const std::string large(Output::kShareFrom, static_cast<char>(c + 1));
  output.Append(Slice::Copy(large.data(), large.size()));
  if (tail) output.Append("end");
  return output;
}

TEST(SendQueue, GivesTheBytesInOrderInAnySteps) {
  for (const size_t step : {size_t{1}, size_t{7}, size_t{4096}, size_t{8191}, size_t{100'000}}) {
    SendQueue queue;
    std::string expected;
    for (int i = 0; i < 5; ++i) {
      Output part = Mixed(static_cast<char>('a' + i), i % 2 == 0);
      expected += Bytes(part);
      queue.Add(std::move(part));
      queue.Add(Output());
    }
    CHECK_EQ(queue.size(), expected.size());
    std::string taken;
    while (queue.size() != 0) taken += Take(queue, std::min(step, queue.size()));
    CHECK(taken == expected);
  }
}

TEST(SendQueue, AddsWhileItSends) {
  SendQueue queue;
  std::string expected, taken;
  for (int i = 0; i < 1000; ++i) {
    const std::string text = std::to_string(i) + ";";
    expected += text;
    queue.Add(Output(text));
    if (i % 3 != 0) taken += Take(queue, std::min<size_t>(queue.size(), 5));
  }
  taken += Take(queue, queue.size());
  CHECK(taken == expected);
}

TEST(SendQueue, DropsWhatIsNotBegun) {
  SendQueue queue;
  for (const char* text : {"first", "second", "third"}) queue.Add(Output(text));
  CHECK_EQ(Take(queue, 7), "firstse");
  CHECK_EQ(queue.Drop(0), size_t{5});
  CHECK_EQ(queue.size(), size_t{4});
  CHECK_EQ(Take(queue, 4), "cond");
  CHECK_EQ(queue.Drop(0), size_t{0});
  queue.Add(Output("fourth"));
  CHECK_EQ(queue.Drop(0), size_t{6});
  queue.Add(Output("fifth"));
  CHECK_EQ(Take(queue, 5), "fifth");

  for (const char* text : {"abc", "de", "fgh"}) queue.Add(Output(text));
  CHECK_EQ(queue.Drop(4), size_t{3});  // a byte of the second is promised
  CHECK_EQ(Take(queue, 1), "a");
  CHECK_EQ(queue.Drop(2), size_t{2});
  CHECK_EQ(Take(queue, queue.size()), "bc");

  queue.Add(Mixed('a', true));
  queue.Add(Output("x"));
  Take(queue, 10 + Output::kShareFrom);  // the tail is left
  CHECK_EQ(queue.Drop(0), size_t{1});
  CHECK_EQ(Take(queue, queue.size()), "end");
}

}  // namespace
}  // namespace pyinfer
