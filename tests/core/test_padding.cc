// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "infer/padding.h"
#include "infer/validate.h"
#include "sched/batch.h"
#include "sched/executor.h"
#include "sched/pack.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::IntModel;
using testing::Ints;
using testing::IntsOf;
using testing::KeepingSink;
using testing::SinkPtr;

template <typename Number>
std::string Element(Number value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

// IN [n, tokens] and the optional MASK [n, tokens], padded with -1 and 0 to 4 or 8 tokens; OUT is cut back.
ModelSpec TokensModel() {
  ModelSpec spec = IntModel({8, true, {}, 0});
  spec.inputs.push_back({"MASK", DType::kInt32, {-1}, {}, true});
  spec.outputs.push_back({"POOLED", DType::kInt32, {-1}, {}, false});
  PaddingOptions padding;
  padding.axes = {{"tokens", {4, 8}, false, {}, DType::kInvalid}};
  padding.inputs = {{"IN", {{1, 0}}, Element(int32_t{-1})}, {"MASK", {{1, 0}}, Element(int32_t{0})}};
  padding.outputs = {{"OUT", {{1, 0}}, {}}};
  spec.padding = std::move(padding);
  return spec;
}

Tensor Input(const std::string& name, const Shape& shape, int32_t first) {
  std::vector<int32_t> values(static_cast<size_t>(ElementCount(shape).value_or(0)));
  for (int32_t& value : values) value = first++;
  return {name, DType::kInt32, shape, Ints(values)};
}

// One request for each list of inputs; `status` is what the last one was told.
struct Fixture {
  Fixture(ModelSpec spec, std::vector<std::vector<Tensor>> given) : model(testing::Shared(std::move(spec))) {
    std::vector<RequestPtr> requests;
    for (std::vector<Tensor>& inputs : given) {
      sinks.push_back(std::make_shared<KeepingSink>());
      auto request = std::make_unique<Request>(sinks.back());
      request->model = model;
      request->inputs = std::move(inputs);
      status = ValidateRequest(*request);
      if (status.ok()) requests.push_back(std::move(request));
    }
    if (!requests.empty()) batch = Batch(std::move(requests), model, nullptr, clock, clock.Now());
  }

  const Tensor& Answer(size_t request, size_t output = 0) const {
    CHECK_EQ(sinks[request]->message(), "");
    return sinks[request]->response.outputs.at(output);
  }

  ManualClock clock{100};
  std::shared_ptr<const ModelSpec> model;
  std::vector<SinkPtr> sinks;
  Status status;
  Batch batch;
};

void CheckTensor(const Tensor& tensor, const std::string& shape, const std::vector<int32_t>& values) {
  CHECK_EQ(ShapeText(tensor.shape), shape);
  CHECK(IntsOf(tensor.data) == values);
}

TEST(WalkCorner, EveryElementOfSmallShapesInItsPlace) {
  // All pairs of shapes of up to 3 dimensions of 0 to 3: the walk against indices that are counted one by one.
  for (size_t rank = 0; rank <= 3; ++rank) {
    const int shapes = rank == 0 ? 1 : rank == 1 ? 4 : rank == 2 ? 16 : 64;
    const auto shape_of = [&](int number) {
      Shape shape;
      for (size_t i = 0; i < rank; ++i, number /= 4) shape.push_back(number % 4);
      return shape;
    };
    for (int a = 0; a < shapes; ++a) {
      for (int b = 0; b < shapes; ++b) {
        const Shape small = shape_of(a), large = shape_of(b);
        bool fits = true;
        for (size_t i = 0; i < rank; ++i) fits = fits && small[i] <= large[i];
        if (!fits) continue;
        std::string walked, counted;
        WalkCorner(
            small, large, [&](uint64_t n) { walked.append(static_cast<size_t>(n), 'x'); },
            [&](uint64_t n) { walked.append(static_cast<size_t>(n), '.'); });
        for (uint64_t i = 0; i < ElementCount(large).value(); ++i) {
          uint64_t left = i;
          bool inside = true;
          for (size_t dim = rank; dim-- > 0;) {
            inside = inside && left % static_cast<uint64_t>(large[dim]) < static_cast<uint64_t>(small[dim]);
            left /= static_cast<uint64_t>(large[dim]);
          }
          counted += inside ? 'x' : '.';
        }
        CHECK_EQ(walked, counted);
      }
    }
  }
}

TEST(Padding, RequestsOfOneBucketLieTogetherAndAreNotCopiedAgain) {
  Fixture f(TokensModel(), {{Input("IN", {1, 3}, 10), Input("MASK", {1, 3}, 1)},
                            {Input("MASK", {2, 1}, 5), Input("IN", {2, 1}, 20)},
                            {Input("IN", {1, 4}, 30), Input("MASK", {1, 4}, 7)}});
  const std::vector<Tensor> packed = Pack(f.batch);
  CHECK_EQ(packed.size(), size_t{2});
  CheckTensor(packed[0], "[4,4]", {10, 11, 12, -1, 20, -1, -1, -1, 21, -1, -1, -1, 30, 31, 32, 33});
  CheckTensor(packed[1], "[4,4]", {1, 2, 3, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7, 8, 9, 10});
  CHECK(packed[0].data.data() == f.batch.request(0).inputs[0].data.data());
  CheckTensor(f.batch.request(1).inputs[0], "[2,4]", {20, -1, -1, -1, 21, -1, -1, -1});
}

TEST(Padding, OneAloneIsPaddedToItsBucketAsWell) {
  for (const auto& [length, padded] : std::vector<std::pair<int64_t, int64_t>>{{0, 4}, {4, 4}, {5, 8}, {8, 8}}) {
    Fixture f(TokensModel(), {{Input("IN", {1, length}, 1)}});
    CHECK_EQ(Pack(f.batch)[0].shape[1], padded);
    f.batch.RespondPacked({Input("OUT", {1, padded}, 50), Input("POOLED", {1, 3}, 90)});
    f.batch.Finish();
    std::vector<int32_t> expected;
    for (int64_t i = 0; i < length; ++i) expected.push_back(50 + static_cast<int32_t>(i));
    CheckTensor(f.Answer(0), "[1," + std::to_string(length) + "]", expected);
    CheckTensor(f.Answer(0, 1), "[1,3]", {90, 91, 92});
  }
}

TEST(Padding, ToTheLongestOfTheBatch) {
  ModelSpec spec = TokensModel();
  spec.padding->axes[0].to_longest = true;
  spec.padding->axes[0].buckets = {8};
  Fixture f(spec, {{Input("IN", {1, 2}, 1)}, {Input("IN", {1, 5}, 10)}, {Input("IN", {1, 0}, 0)}});
  CheckTensor(Pack(f.batch)[0], "[3,5]", {1, 2, -1, -1, -1, 10, 11, 12, 13, 14, -1, -1, -1, -1, -1});
  f.batch.RespondPacked({Input("OUT", {3, 5}, 0), Input("POOLED", {3, 1}, 0)});
  f.batch.Finish();
  CheckTensor(f.Answer(0), "[1,2]", {0, 1});
  CheckTensor(f.Answer(1), "[1,5]", {5, 6, 7, 8, 9});
  CheckTensor(f.Answer(2), "[1,0]", {});
}

TEST(Padding, AnswersAreCutWithoutACopyWhereTheyLieTogether) {
  Fixture f(TokensModel(), {{Input("IN", {1, 3}, 1)}, {Input("IN", {2, 2}, 1)}, {Input("IN", {1, 4}, 1)}});
  const Tensor out = Input("OUT", {4, 4}, 0);
  f.batch.RespondPacked({out, Input("POOLED", {4, 1}, 70)});
  f.batch.Finish();
  CheckTensor(f.Answer(0), "[1,3]", {0, 1, 2});
  CHECK(f.Answer(0).data.data() == out.data.data());
  CheckTensor(f.Answer(1), "[2,2]", {4, 5, 8, 9});
  CheckTensor(f.Answer(2), "[1,4]", {12, 13, 14, 15});
  CHECK(f.Answer(2).data.data() == out.data.data() + 48);
  CheckTensor(f.Answer(1, 1), "[2,1]", {71, 72});
}

TEST(Padding, AnswersApartAreCutAsWell) {
  ModelSpec spec = TokensModel();
  spec.decoupled = true;
  Fixture f(spec, {{Input("IN", {1, 3}, 1)}});
  const auto responder = f.batch.Detach(0);
  f.batch.Finish();
  CHECK(responder->Send({Input("OUT", {1, 4}, 0)}, {}, false));
  CHECK(responder->Send({Input("OUT", {2, 4}, 4)}, {}, true));
  CheckTensor(f.sinks[0]->partial.at(0).outputs.at(0), "[1,3]", {0, 1, 2});
  CheckTensor(f.Answer(0), "[2,3]", {4, 5, 6, 8, 9, 10});
}

TEST(Padding, AnOutputThatIsNotAsLongAsThePaddedInputsFailsItsRequest) {
  Fixture f(TokensModel(), {{Input("IN", {1, 3}, 1)}, {Input("IN", {1, 4}, 1)}});
  f.batch.Respond(0, {Input("OUT", {1, 3}, 1), Input("POOLED", {1, 1}, 1)}, {});
  f.batch.Respond(1, {Input("OUT", {1, 4}, 1), Input("POOLED", {1, 1}, 1)}, {});
  f.batch.Finish();
  CHECK(f.sinks[0]->code() == Code::kInternal);
  CHECK_EQ(f.sinks[0]->message(),
           "output 'OUT' of model 'm' has 3 along dimension 1, expected 4: 'tokens' was padded to that");
  CheckTensor(f.Answer(1), "[1,4]", {1, 2, 3, 4});
}

// Pictures [n, height, width], each side an axis of its own, with the side's length for each row.
TEST(Padding, TwoAxesAndTheLengthsForTheModel) {
  ModelSpec spec = IntModel({8, true, {}, 0});
  spec.inputs[0].dims = spec.outputs[0].dims = {-1, -1};
  PaddingOptions padding;
  padding.axes = {{"height", {2, 4}, false, "HEIGHTS", DType::kInt32}, {"width", {3}, true, "WIDTHS", DType::kInt64}};
  padding.inputs = {{"IN", {{1, 0}, {2, 1}}, Element(int32_t{0})}};
  padding.outputs = {{"OUT", {{1, 0}, {2, 1}}, {}}};
  spec.padding = padding;
  Fixture f(spec, {{Input("IN", {1, 2, 1}, 1)}, {Input("IN", {2, 1, 2}, 5)}});
  const std::vector<Tensor> packed = Pack(f.batch);
  CheckTensor(packed.at(0), "[3,2,2]", {1, 0, 2, 0, 5, 6, 0, 0, 7, 8, 0, 0});
  CHECK_EQ(packed.at(1).name, "HEIGHTS");
  CheckTensor(packed.at(1), "[3]", {2, 1, 1});
  CHECK(packed.at(2).dtype == DType::kInt64);
  CheckTensor(packed.at(2), "[3]", {1, 0, 2, 0, 2, 0});  // little-endian halves
  f.batch.RespondPacked({Input("OUT", {3, 2, 2}, 0)});
  f.batch.Finish();
  CheckTensor(f.Answer(0), "[1,2,1]", {0, 2});
  CheckTensor(f.Answer(1), "[2,1,2]", {4, 5, 8, 9});
}

// A matrix with a row and a column for each token.
TEST(Padding, OneAxisInTwoDimensions) {
  ModelSpec spec = IntModel({8, true, {}, 0});
  spec.inputs[0].dims = spec.outputs[0].dims = {-1, -1};
  PaddingOptions padding;
  padding.axes = {{"tokens", {3}, false, {}, DType::kInvalid}};
  padding.inputs = {{"IN", {{1, 0}, {2, 0}}, Element(int32_t{9})}};
  spec.padding = padding;
  Fixture f(spec, {{Input("IN", {1, 2, 2}, 1)}});
  CheckTensor(Pack(f.batch)[0], "[1,3,3]", {1, 2, 9, 3, 4, 9, 9, 9, 9});
  Fixture uneven(spec, {{Input("IN", {1, 2, 3}, 1)}});
  CHECK_EQ(uneven.status.message(),
           "[request id: <id_unknown>] input 'IN' for model 'm' has 3 along dimension 2, but other inputs have 2 along "
           "'tokens'");
}

TEST(Padding, AModelThatReturnsItsInputsReturnsNoneThatTheServerMade) {
  ModelSpec spec = IntModel({8, true, {}, 0});
  PaddingOptions padding;
  padding.axes = {{"tokens", {4}, false, "LENGTHS", DType::kInt32}};
  padding.inputs = {{"IN", {{1, 0}}, Element(int32_t{0})}};
  padding.outputs = {{"OUT", {{1, 0}}, {}}};
  spec.padding = padding;
  Fixture f(spec, {{Input("IN", {1, 2}, 5)}});
  CHECK_EQ(f.batch.request(0).inputs.at(1).name, "LENGTHS");
  MakeExecutor("identity", {}, *f.model).value()->Execute(f.batch);
  f.batch.Finish();
  CHECK_EQ(f.sinks[0]->response.outputs.size(), size_t{1});
  CheckTensor(f.Answer(0), "[1,2]", {5, 6});
}

std::string Texts(const std::vector<std::string>& texts) {
  std::string bytes;
  for (const std::string& text : texts) bytes += Element(static_cast<uint32_t>(text.size())) + text;
  return bytes;
}

TEST(Padding, Texts) {
  ModelSpec spec = TokensModel();
  spec.inputs[0].dtype = spec.outputs[0].dtype = DType::kBytes;
  spec.padding->inputs[0].fill = Texts({"[PAD]"});
  const auto tensor = [](const std::string& name, Shape shape, const std::vector<std::string>& texts) {
    const std::string bytes = Texts(texts);
    return Tensor{name, DType::kBytes, std::move(shape), Slice::Copy(bytes.data(), bytes.size())};
  };
  Fixture f(spec, {{tensor("IN", {1, 3}, {"a", "", "ccc"})}, {tensor("IN", {2, 1}, {"d", "ee"})}});
  CHECK_EQ(Pack(f.batch)[0].data.view(),
           Texts({"a", "", "ccc", "[PAD]", "d", "[PAD]", "[PAD]", "[PAD]", "ee", "[PAD]", "[PAD]", "[PAD]"}));
  f.batch.RespondPacked(
      {tensor("OUT", {3, 4}, {"0", "1", "2", "3", "4", "", "", "", "55", "", "", "66"}), Input("POOLED", {3, 1}, 0)});
  f.batch.Finish();
  CHECK_EQ(f.Answer(0).data.view(), Texts({"0", "1", "2"}));
  CHECK_EQ(f.Answer(1).data.view(), Texts({"4", "55"}));
}

TEST(Padding, EachSizeOfElements) {
  const std::vector<std::pair<DType, std::string>> fills = {{DType::kInt8, Element(int8_t{-3})},
                                                            {DType::kBf16, Element(uint16_t{0x3f80})},
                                                            {DType::kFp32, Element(1.5F)},
                                                            {DType::kInt64, Element(int64_t{-7})}};
  for (const auto& [dtype, fill] : fills) {
    ModelSpec spec = TokensModel();
    spec.inputs[0].dtype = dtype;
    spec.padding->inputs[0].fill = fill;
    const std::string zeros(2 * fill.size(), '\0');
    Fixture f(spec, {{{"IN", dtype, {1, 2}, Slice::Copy(zeros.data(), zeros.size())}}});
    CHECK_EQ(Pack(f.batch)[0].data.view(), zeros + fill + fill);
  }
}

TEST(Padding, RefusesWhatFitsNoBucketAndInputsThatDiffer) {
  const std::string id = "[request id: <id_unknown>] ";
  Fixture longer(TokensModel(), {{Input("IN", {1, 9}, 0)}});
  CHECK(longer.status.code() == Code::kInvalidArg);
  CHECK_EQ(longer.status.message(),
           id + "input 'IN' for model 'm' has 9 along dimension 1, the most is 8 along 'tokens'");
  Fixture differ(TokensModel(), {{Input("IN", {1, 3}, 0), Input("MASK", {1, 4}, 0)}});
  CHECK_EQ(differ.status.message(),
           id + "input 'MASK' for model 'm' has 4 along dimension 1, but other inputs have 3 along 'tokens'");
}

TEST(Padding, TakesNoMemoryForWhatAShapeMerelySays) {
  ModelSpec spec = TokensModel();
  spec.inputs[0].dims = {-1, -1};
  Fixture f(spec, {{Input("IN", {1, 0, int64_t{1} << 40}, 0)}});
  CHECK(f.status.code() == Code::kInvalidArg);
  CHECK_EQ(f.status.message(),
           "[request id: <id_unknown>] input 'IN' for model 'm' has no elements, shape [1,0,1099511627776]");
  Fixture rows(spec, {{Input("IN", {0, 2, int64_t{1} << 40}, 0)}});
  CHECK(rows.status.ok());
  CHECK_EQ(ShapeText(Pack(rows.batch)[0].shape), "[0,4,1099511627776]");
  Fixture large(spec, {{{"IN", DType::kInt32, {0, 2, int64_t{1} << 58}, {}}}});
  CHECK_EQ(large.status.message(),
           "[request id: <id_unknown>] the shape [0,2,288230376151711744] of input 'IN' for "
           "model 'm' is too large, padded to [0,4,288230376151711744]");
}

}  // namespace
}  // namespace pyinfer
