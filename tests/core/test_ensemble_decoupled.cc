// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "check.h"
#include "ensembles.h"
#include "sched/responder.h"

namespace pyinfer {
namespace {

using testing::CheckFailed;
using testing::CheckOutput;
using testing::Ints;
using testing::KeepingSink;
using testing::SinkPtr;
using testing::Works;

// X -> p (decoupled) -> t;  X -> q -> w;  (t, w) -> s -> Y
struct Tree : Works {
  explicit Tree(size_t max_inflight_requests = 0) {
    ModelSpec spec = Spec("p", {"IN"}, {"OUT"});
    spec.decoupled = true;
    Publish(spec);
    Part("q");
    Part("s", {"L", "R"});
    Ensemble({"X"}, {"Y"},
             {{"p", -1, {{"IN", "X"}}, {{"OUT", "t"}}},
              {"q", -1, {{"IN", "X"}}, {{"OUT", "w"}}},
              {"s", -1, {{"L", "t"}, {"R", "w"}}, {{"OUT", "Y"}}}},
             /*decoupled=*/true, max_inflight_requests);
  }

  // What the decoupled model answers its request by.
  std::shared_ptr<Responder> Begin() {
    Batch batch = Take("p");
    CHECK_EQ(batch.size(), size_t{1});
    return batch.Detach(0);
  }
  static std::vector<Tensor> Out(int32_t value) { return {{"OUT", DType::kInt32, {1, 1}, Ints({value})}}; }
};

TEST(EnsembleDecoupled, EachResponseGoesOnByItself) {
  Tree tree;
  const SinkPtr sink = tree.Ask(1);
  const auto responder = tree.Begin();
  CHECK(responder->Send(Tree::Out(1), {}, false));
  CHECK(responder->Send(Tree::Out(2), {}, false));
  CHECK_EQ(tree.pending("s"), size_t{0});
  tree.Execute("q", 0);
  // What came before and what comes after sees it.
  CHECK_EQ(tree.pending("s"), size_t{2});
  tree.Execute("s", 1);
  CHECK_EQ(sink->partial.size(), size_t{2});
  CHECK(responder->Send(Tree::Out(3), {}, false));
  tree.Execute("s", 1);
  CHECK_EQ(sink->answers.load(), 0);
  CHECK(responder->End());
  CHECK_EQ(sink->answers.load(), 1);
  CHECK(sink->response.only_ends);
  for (int32_t i = 0; i < 3; ++i) CheckOutput(sink->partial.at(static_cast<size_t>(i)), "Y", (i + 1 + 10) * 10 + 1);
  CHECK_EQ(tree.model("e").in_flight(), size_t{0});
  CHECK_EQ(tree.model("e").Statistics().success.count, uint64_t{1});
}

TEST(EnsembleDecoupled, TheEndIsToldApart) {
  Tree tree;
  const auto sink = std::make_shared<KeepingSink>();
  RequestPtr request = tree.Request(sink, 1);
  request->correlation_id.text = "seq";
  tree.engine->Submit(std::move(request));
  tree.engine->Dispatch();
  const auto responder = tree.Begin();
  tree.Execute("q", 0);
  CHECK(responder->Send(Tree::Out(1), {}, true));
  CHECK_EQ(sink->answers.load(), 0);
  tree.Execute("s", 0);
  CHECK_EQ(sink->answers.load(), 1);
  CHECK(sink->response.only_ends);
  CHECK_EQ(sink->partial.size(), size_t{1});
  CheckOutput(sink->partial[0], "Y", 110);
  CHECK_EQ(std::get<std::string>(sink->partial[0].parameters.at(0).second), "seq");
}

TEST(EnsembleDecoupled, NoResponseAtAll) {
  Tree tree;
  const SinkPtr sink = tree.Ask(1);
  CHECK(tree.Begin()->End());
  CHECK_EQ(sink->answers.load(), 0);
  tree.Execute("q", 0);
  CHECK_EQ(sink->answers.load(), 1);
  CHECK(sink->code() == Code::kOk);
  CHECK(sink->response.only_ends);
}

TEST(EnsembleDecoupled, AResponseWithoutAnOutputGoesNowhere) {
  Tree tree;
  const SinkPtr sink = tree.Ask(1);
  const auto responder = tree.Begin();
  tree.Execute("q", 0);
  CHECK(responder->Send({}, {}, false));
  CHECK(responder->Send(Tree::Out(1), {}, true));
  tree.Execute("s", 0);
  CHECK_EQ(sink->partial.size(), size_t{1});
  CheckOutput(sink->partial[0], "Y", 110);
}

TEST(EnsembleDecoupled, AnErrorEndsIt) {
  Tree tree;
  const SinkPtr sink = tree.Ask(1);
  const auto responder = tree.Begin();
  tree.Execute("q", 0);
  CHECK(responder->Send(Tree::Out(1), {}, false));
  tree.Execute("s", 0);
  CHECK(responder->Fail(Status::Internal("enough"), false));
  CHECK_EQ(sink->partial.size(), size_t{1});
  CheckFailed(sink, Code::kInternal, "in ensemble 'e', enough");
  CHECK(responder->cancelled());
  CHECK(responder->Send(Tree::Out(2), {}, true));
  CHECK_EQ(tree.pending("s"), size_t{0});
  CHECK_EQ(tree.model("p").in_flight(), size_t{0});
}

TEST(EnsembleDecoupled, CancellationReachesTheModel) {
  Tree tree;
  const SinkPtr sink = tree.Ask(1);
  const auto responder = tree.Begin();
  CHECK(!responder->cancelled());
  sink->cancel = true;
  CHECK(responder->cancelled());
  tree.engine->NoteCancellation();
  tree.engine->Dispatch();
  CheckFailed(sink, Code::kCancelled, "");
  CHECK_EQ(tree.pending("q"), size_t{0});
}

TEST(EnsembleDecoupled, InOneAnother) {
  Works works;
  for (const char* name : {"p", "q"}) {
    ModelSpec spec = Works::Spec(name, {"IN"}, {"OUT"});
    spec.decoupled = true;
    works.Publish(spec);
  }
  works.Ensemble({"X"}, {"Y"}, {{"p", -1, {{"IN", "X"}}, {{"OUT", "t"}}}, {"q", -1, {{"IN", "t"}}, {{"OUT", "Y"}}}},
                 /*decoupled=*/true);
  const SinkPtr sink = works.Ask(1);
  const auto outer = works.Take("p").Detach(0);
  for (int32_t i = 1; i <= 2; ++i) {
    CHECK(outer->Send(Tree::Out(i), {}, false));
    Batch batch = works.Take("q");
    CHECK_EQ(Works::In(batch), i);
    const auto inner = batch.Detach(0);
    CHECK(inner->Send(Tree::Out(10 * i), {}, false));
    CHECK(inner->Send(Tree::Out(10 * i + 1), {}, true));
  }
  CHECK(outer->End());
  CHECK_EQ(sink->partial.size(), size_t{4});
  CHECK_EQ(sink->answers.load(), 1);
  CheckOutput(sink->partial[3], "Y", 21);
}

// A response that is through leaves nothing behind: as many as one likes pass through one request.
TEST(EnsembleDecoupled, AResponseThatIsThroughIsForgotten) {
  Tree tree;
  const SinkPtr sink = tree.Ask(1);
  const auto responder = tree.Begin();
  tree.Execute("q", 0);
  std::vector<std::weak_ptr<Buffer>> buffers;
  for (int32_t i = 0; i < 50; ++i) {
    BufferPtr buffer = Buffer::Allocate(4);
    std::memcpy(buffer->data(), &i, 4);
    buffers.push_back(buffer);
    CHECK(responder->Send({{"OUT", DType::kInt32, {1, 1}, Slice(std::move(buffer))}}, {}, false));
    tree.Execute("s", 0);
  }
  for (const auto& buffer : buffers) CHECK(buffer.expired());
  CHECK_EQ(sink->partial.size(), size_t{50});
  CHECK(responder->End());
}

TEST(EnsembleDecoupled, TheLimitHoldsForItsResponses) {
  Tree tree(/*max_inflight_requests=*/1);
  const SinkPtr sink = tree.Ask(1);
  const auto responder = tree.Begin();
  tree.Execute("q", 0);
  for (int32_t i = 0; i < 3; ++i) CHECK(responder->Send(Tree::Out(i), {}, false));
  CHECK(responder->End());
  for (int32_t i = 0; i < 3; ++i) {
    CHECK_EQ(tree.pending("s"), size_t{1});
    tree.Execute("s", 0);
  }
  CHECK_EQ(sink->partial.size(), size_t{3});
  CHECK_EQ(sink->answers.load(), 1);
  CheckOutput(sink->partial[2], "Y", 120);
}

}  // namespace
}  // namespace pyinfer
