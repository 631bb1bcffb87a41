// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <set>
#include <string>
#include <vector>

#include "check.h"
#include "load/expected.h"
#include "load/sequence_set.h"

namespace pyinfer {
namespace {

SequencePlan Plan(uint32_t live, uint32_t length, std::vector<std::pair<size_t, size_t>> data) {
  SequencePlan plan;
  plan.live = live;
  plan.length = length;
  plan.data = std::move(data);
  return plan;
}

TEST(SequenceSet, StepsFollowTheData) {
  const SequencePlan plan = Plan(2, 0, {{0, 3}, {3, 1}, {4, 2}});
  SequenceSet set(plan, 0, 2);
  const auto steps = [&](uint32_t sequence, int count) {
    std::string seen;
    for (int i = 0; i < count; ++i) {
      const SequenceStep step = set.Next(sequence);
      seen += std::to_string(step.id) + (step.start ? "<" : ":") + std::to_string(step.body) + (step.end ? "> " : " ");
    }
    return seen;
  };
  CHECK_EQ(steps(0, 8), "1<0 1:1 1:2> 3<4 3:5> 5<3> 7<0 7:1 ");
  CHECK_EQ(steps(1, 2), "2<3> 4<0 ");
  CHECK(set.is_open(0) && set.is_open(1) && set.any_open());
}

TEST(SequenceSet, LengthsVaryAroundTheirs) {
  SequencePlan plan = Plan(1, 20, {{0, 3}});
  plan.variation = 0.2;
  SequenceSet set(plan, 0, 1);
  std::set<int> lengths;
  double sum = 0;
  for (int i = 0; i < 2000; ++i) {
    int length = 0;
    SequenceStep step;
    do {
      step = set.Next(0);
      CHECK_EQ(step.body, static_cast<size_t>(length % 3));
      CHECK_EQ(step.start, length == 0);
      ++length;
    } while (!step.end);
    lengths.insert(length);
    sum += length;
  }
  CHECK(*lengths.begin() == 16 && *lengths.rbegin() == 24 && lengths.size() == 9);
  CHECK(sum / 2000 > 19.7 && sum / 2000 < 20.3);
}

// Whatever the sets do, in whatever order, no two live sequences have the same id, and ids stay within their range.
TEST(SequenceSet, IdsOfLiveSequencesDiffer) {
  for (const uint64_t ids : {7u, 8u, 23u, 0u}) {
    SequencePlan plan = Plan(7, 3, {{0, 1}});
    plan.first_id = 100;
    plan.end_id = ids == 0 ? 0 : 100 + ids;
    std::vector<SequenceSet> sets;
    sets.emplace_back(plan, 0, 4);
    sets.emplace_back(plan, 4, 3);
    std::map<std::pair<size_t, uint32_t>, uint64_t> live;
    std::set<uint64_t> seen;
    for (int i = 0; i < 5000; ++i) {
      const size_t which = static_cast<size_t>(i * 7919 % 7) < 4 ? 0 : 1;
      const uint32_t sequence = static_cast<uint32_t>(i * 104729) % sets[which].size();
      const SequenceStep step = sets[which].Next(sequence);
      if (i % 11 == 0) sets[which].Abandon(sequence);
      for (const auto& [key, id] : live) CHECK(id != step.id || key == std::make_pair(which, sequence));
      live[{which, sequence}] = step.id;
      CHECK(step.id >= 100 && (ids == 0 || step.id < 100 + ids));
      seen.insert(step.id);
    }
    CHECK(ids == 0 ? seen.size() > 1000 : seen.size() == ids);
  }
}

TEST(SequenceSet, EndsBeforeItsTime) {
  const SequencePlan plan = Plan(1, 5, {{0, 1}});
  SequenceSet set(plan, 0, 1);
  set.Next(0);
  const SequenceStep last = set.End(0);
  CHECK(last.end && !last.start && last.id == 1);
  CHECK(!set.any_open());
  set.Next(0);
  set.Abandon(0);
  CHECK(!set.is_open(0));
  CHECK(set.Next(0).start);
}

TEST(SequenceSet, StepsAreWritten) {
  std::string out;
  WriteGrpcStep(out, std::string("\0\0\0\0\1x", 6), {0, 300, true, false});
  const std::string parameters = std::string("\x22\x12\x0a\x0bsequence_id\x12\x03\x10\xac\x02", 20) +
                                 std::string("\x22\x14\x0a\x0esequence_start\x12\x02\x08\x01", 22) +
                                 std::string("\x22\x12\x0a\x0csequence_end\x12\x02\x08\x00", 20);
  CHECK_EQ(out, std::string("\0\0\0\0\x3f", 5) + "x" + parameters);
  const std::string body = "POST / HTTP/1.1\r\n\r\n{\"parameters\":{" + std::string(kSequenceFields) + "}}";
  WriteHttpStep(out, body, {0, 18446744073709551615u, false, true});
  CHECK_EQ(out.size(), body.size());
  CHECK_EQ(out.substr(19),
           "{\"parameters\":{\"sequence_id\":18446744073709551615,\"sequence_start\":false,\"sequence_end\":true }}");
}

std::string Field(char tag, const std::string& value) {
  return std::string(1, tag) + static_cast<char>(value.size()) + value;
}

TEST(ExpectedOutputs, AnswersOverGrpc) {
  const std::string two = Field('\x0a', "m") + Field('\x2a', Field('\x0a', "A")) + Field('\x2a', Field('\x0a', "B")) +
                          Field('\x32', "xy") + Field('\x32', "z");
  CHECK_EQ(CompareGrpc({{"A", "xy"}, {"B", "z"}}, two), "");
  CHECK_EQ(CompareGrpc({{"B", "z"}}, two), "");
  CHECK_EQ(CompareGrpc({{"A", "xz"}}, two), "output 'A' differs from validation_data");
  CHECK_EQ(CompareGrpc({{"A", "x"}}, two), "output 'A' has 2 bytes; validation_data has 1");
  CHECK_EQ(CompareGrpc({{"C", ""}}, two), "the answer has no output 'C', which validation_data expects");
  CHECK_EQ(CompareGrpc({{"A", "xy"}}, two.substr(0, two.size() - 2)), "the answer is no ModelInferResponse");
}

TEST(ExpectedOutputs, AnswersOverHttp) {
  const std::string header =
      R"({"outputs":[{"name":"A","parameters":{"binary_data_size":2}},{"name":"B","parameters":{"binary_data_size":1}}]})";
  const auto compare = [&](const ExpectedOutputs& expected, const std::string& data) {
    return CompareHttp(expected, header + data, header.size());
  };
  CHECK_EQ(compare({{"A", "xy"}, {"B", "z"}}, "xyz"), "");
  CHECK_EQ(compare({{"B", "y"}}, "xyz"), "output 'B' differs from validation_data");
  CHECK_EQ(compare({{"B", "z"}}, "xy"), "output 'B' has 0 bytes; validation_data has 1");
  CHECK_EQ(CompareHttp({{"A", "x"}}, "no JSON", 0), "the answer is no JSON with outputs");
  CHECK_EQ(CompareHttp({{"A", "x"}}, header, 10), "the answer is no JSON with outputs");
  CHECK_EQ(CompareHttp({{"A", "x"}}, header, 1 << 20), "output 'A' has 0 bytes; validation_data has 1");
}

}  // namespace
}  // namespace pyinfer
