// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "infer/validate.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::KeepingSink;

ModelSpec Spec(int64_t max_batch_size) {
  ModelSpec spec;
  spec.name = "m";
  spec.inputs = {{"A", DType::kFp32, {-1, 2}, {}, false}, {"B", DType::kBytes, {1}, {}, true}};
  spec.outputs = {{"X", DType::kFp32, {-1, 2}, {}, false}, {"Y", DType::kInt8, {1}, {}, false}};
  spec.batching.max_batch_size = max_batch_size;
  return spec;
}

Tensor Input(std::string name, DType dtype, Shape shape, size_t bytes) {
  return {std::move(name), dtype, std::move(shape), Slice(Buffer::FromString(std::string(bytes, '\0')))};
}

// A request that is good for Spec(4): two rows of A. Answered when it goes.
RequestPtr Good(ModelSpec spec = Spec(4)) {
  auto request = std::make_unique<Request>(std::make_shared<KeepingSink>());
  const bool batched = spec.has_batch_dimension();
  request->model = testing::Shared(std::move(spec));
  request->inputs.push_back(Input("A", DType::kFp32, batched ? Shape{2, 3, 2} : Shape{3, 2}, batched ? 48 : 24));
  return request;
}

void Refused(Request& request, std::string_view text) {
  const Status status = ValidateRequest(request);
  CHECK(status.code() == Code::kInvalidArg);
  CHECK_EQ(status.message(), text);
}
void Refused(const RequestPtr& request, std::string_view text) { Refused(*request, text); }

TEST(Validate, AcceptsWhatFits) {
  const RequestPtr request = Good();
  request->inputs.push_back(Input("B", DType::kBytes, {2, 1}, 8));
  std::swap(request->inputs[0], request->inputs[1]);
  CHECK(ValidateRequest(*request).ok());
  CHECK_EQ(request->batch_size, int64_t{2});
  // In the order of the model, and again.
  CHECK_EQ(request->inputs[0].name, "A");
  CHECK(ValidateRequest(*request).ok());
  CHECK_EQ(request->inputs[1].name, "B");
}

TEST(Validate, WithoutBatchDimension) {
  const RequestPtr request = Good(Spec(0));
  CHECK(ValidateRequest(*request).ok());
  CHECK_EQ(request->batch_size, int64_t{1});
}

TEST(Validate, ABatchOfZero) {
  const RequestPtr request = Good();
  request->inputs[0] = Input("A", DType::kFp32, {0, 3, 2}, 0);
  CHECK(ValidateRequest(*request).ok());
  CHECK_EQ(request->batch_size, int64_t{0});
}

TEST(Validate, CountsInputs) {
  RequestPtr request = Good();
  request->id = "r7";
  request->inputs.clear();
  Refused(request,
          "[request id: r7] expected number of inputs between 1 and 2 but got 0 inputs for model 'm'. Got input(s) "
          "[], but missing required input(s) ['A']. Please provide all required input(s).");
  ModelSpec spec = Spec(4);
  spec.inputs[1].optional = false;
  request = Good(std::move(spec));
  Refused(
      request,
      "[request id: <id_unknown>] expected 2 inputs but got 1 inputs for model 'm'. Got input(s) ['A'], but missing "
      "required input(s) ['B']. Please provide all required input(s).");
}

TEST(Validate, ManyInputsAreNotListed) {
  const RequestPtr request = Good();
  for (int i = 0; i < 100'000; ++i) request->inputs.push_back(Input("A", DType::kFp32, {1, 2}, 8));
  const Status status = ValidateRequest(*request);
  CHECK(status.code() == Code::kInvalidArg);
  CHECK(status.message().size() < 1000);
}

TEST(Validate, NamesOfInputs) {
  RequestPtr request = Good();
  request->inputs.push_back(Input("C", DType::kFp32, {2, 2}, 16));
  Refused(request, "unexpected inference input 'C' for model 'm'");
  request = Good();
  request->inputs.push_back(request->inputs[0]);
  Refused(request, "[request id: <id_unknown>] input 'A' already exists in request");
  request = Good();
  request->inputs[0] = Input("B", DType::kBytes, {2, 1}, 8);
  Refused(request, "input 'A' is required for model 'm'");
}

TEST(Validate, DataType) {
  const RequestPtr request = Good();
  request->inputs[0].dtype = DType::kInt32;
  Refused(request, "[request id: <id_unknown>] inference input 'A' data-type is 'INT32', but model 'm' expects 'FP32'");
}

TEST(Validate, BatchDimension) {
  RequestPtr request = Good();
  request->inputs[0] = Input("A", DType::kFp32, {}, 4);
  Refused(request, "[request id: <id_unknown>] input 'A' has no shape but model requires batch dimension for 'm'");
  request->inputs[0] = Input("A", DType::kFp32, {5, 1, 2}, 40);
  Refused(request, "[request id: <id_unknown>] inference request batch-size must be <= 4 for 'm'");
  request->inputs[0] = Input("A", DType::kFp32, {-1, 1, 2}, 8);
  Refused(request, "[request id: <id_unknown>] inference request batch-size must be >= 0 for 'm'");
  request->inputs[0] = Input("A", DType::kFp32, {std::numeric_limits<int64_t>::min(), 1, 2}, 8);
  Refused(request, "[request id: <id_unknown>] inference request batch-size must be >= 0 for 'm'");
  request = Good();
  request->inputs.push_back(Input("B", DType::kBytes, {1, 1}, 4));
  Refused(request, "[request id: <id_unknown>] input 'B' batch size does not match other inputs for 'm'");
}

TEST(Validate, ShapeThatIsNotWhole) {
  RequestPtr request = Good();
  request->inputs[0] = Input("A", DType::kFp32, {2, -1, 2}, 0);
  Refused(request,
          "[request id: <id_unknown>] All input dimensions should be specified for input 'A' for model 'm', "
          "got [2,-1,2]");
}

TEST(Validate, Shape) {
  const std::string hint =
      "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each "
      "input shape. If you want to specify the full shape including the batch dim in your input dims config, try "
      "setting max_batch_size to zero. See the model configuration docs for more info on max_batch_size.";
  RequestPtr request = Good();
  for (const Shape& shape : {Shape{2, 2}, Shape{2, 3, 3}, Shape{2, -2, 2}, Shape{2, 3, 2, 1}}) {
    request->inputs[0] = Input("A", DType::kFp32, shape, 0);
    Refused(request,
            "[request id: <id_unknown>] unexpected shape for input 'A' for model 'm'. Expected [-1,-1,2], got " +
                ShapeText(shape) + ". " + hint);
  }
  request = Good(Spec(0));
  request->inputs[0] = Input("A", DType::kFp32, {std::numeric_limits<int64_t>::min(), 2}, 0);
  Refused(request,
          "[request id: <id_unknown>] unexpected shape for input 'A' for model 'm'. Expected [-1,2], got "
          "[-9223372036854775808,2]. ");
}

TEST(Validate, SizesThatOverflow) {
  RequestPtr request = Good(Spec(0));
  constexpr int64_t most = std::numeric_limits<int64_t>::max();
  request->inputs[0].shape = {most, 2};
  Refused(request,
          "[request id: <id_unknown>] the shape [9223372036854775807,2] of input 'A' for model 'm' is too large");
  ModelSpec wide = Spec(0);
  wide.inputs[0].dims = {-1, -1, -1};
  request = Good(std::move(wide));
  request->inputs[0].shape = {0, int64_t{1} << 62, int64_t{1} << 62};
  Refused(request,
          "[request id: <id_unknown>] the shape [0,4611686018427387904,4611686018427387904] of input 'A' for "
          "model 'm' is too large");
  request->inputs[0].shape = {4, (int64_t{1} << 62) + 1, 1};
  Refused(request,
          "[request id: <id_unknown>] the shape [4,4611686018427387905,1] of input 'A' for model 'm' is too large");
}

TEST(Validate, ByteSize) {
  const RequestPtr request = Good();
  for (const size_t size : {0, 47, 49}) {
    request->inputs[0] = Input("A", DType::kFp32, {2, 3, 2}, size);
    Refused(request,
            "[request id: <id_unknown>] input byte size mismatch for input 'A' for model 'm'. Expected 48, got " +
                std::to_string(size));
  }
}

TEST(Validate, BytesElements) {
  const RequestPtr request = Good();
  request->inputs.push_back(Input("B", DType::kBytes, {2, 1}, 7));
  Refused(request,
          "[request id: <id_unknown>] incomplete string length indicator for inference input 'B' for model 'm', "
          "expecting 4 "
          "bytes but only 3 bytes available. Please make sure the string length indicator is in one buffer.");
}

TEST(Validate, Outputs) {
  RequestPtr request = Good();
  request->requested_outputs = {{"Y"}, {"X"}};
  CHECK(ValidateRequest(*request).ok());
  CHECK_EQ(request->requested_outputs[0].name, "Y");
  request->requested_outputs = {{"Z"}};
  Refused(request, "unexpected inference output 'Z' for model 'm'");
  request->requested_outputs = {{"X"}, {"X"}};
  Refused(request, "output 'X' already exists in request");
  request->requested_outputs.assign(1'000'000, {"X"});
  Refused(request, "output 'X' already exists in request");
  request->requested_outputs.back() = {"Z"};
  Refused(request, "unexpected inference output 'Z' for model 'm'");
}

TEST(Reshape, OfInputs) {
  ModelSpec spec = Spec(4);
  spec.inputs[0].dims = {-1, 2, -1};
  spec.inputs[0].reshape = Shape{2, -1, 1, -1};
  spec.inputs[1].reshape = Shape{};
  const RequestPtr request = Good(std::move(spec));
  request->inputs[0] = Input("A", DType::kFp32, {2, 3, 2, 5}, 240);
  request->inputs.push_back(Input("B", DType::kBytes, {2, 1}, 8));
  CHECK(ValidateRequest(*request).ok());
  ReshapeInputs(*request);
  CHECK_EQ(ShapeText(request->inputs[0].shape), "[2,2,3,1,5]");
  CHECK_EQ(ShapeText(request->inputs[1].shape), "[2]");
}

TEST(ValidateOutput, ChecksAndReshapes) {
  ModelSpec spec = Spec(4);
  spec.outputs[0].reshape = Shape{2, -1};
  Tensor output = Input("X", DType::kFp32, {3, 2, 5}, 120);
  CHECK(ValidateOutput(spec, 3, output).ok());
  CHECK_EQ(ShapeText(output.shape), "[3,5,2]");
  const auto fault = [&spec](Tensor wrong, std::string_view text) {
    const Status status = ValidateOutput(spec, 3, wrong);
    CHECK(status.code() == Code::kInternal);
    CHECK_EQ(status.message(), text);
  };
  fault(Input("Z", DType::kFp32, {3, 2, 5}, 120), "the model returned an unknown output 'Z' of model 'm'");
  fault(Input("X", DType::kFp64, {3, 2, 5}, 240),
        "the data type of output 'X' of model 'm' is 'FP64', expected 'FP32'");
  fault(Input("X", DType::kFp32, {2, 2, 5}, 80), "the shape of output 'X' of model 'm' is [2,2,5], expected [3,2,-1]");
  fault(Input("X", DType::kFp32, {3, 5, 2}, 120), "the shape of output 'X' of model 'm' is [3,5,2], expected [3,2,-1]");
  fault(Input("X", DType::kFp32, {}, 4), "the shape of output 'X' of model 'm' is [], expected [3,2,-1]");
  fault(Input("Y", DType::kInt8, {3}, 3), "the shape of output 'Y' of model 'm' is [3], expected [3,1]");
}

}  // namespace
}  // namespace pyinfer
