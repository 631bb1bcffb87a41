// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <limits>

#include "check.h"
#include "protocol/classification.h"
#include "v2_http_fixtures.h"

namespace pyinfer {
namespace {

using testing::Model;
using testing::NullSink;

template <typename T>
Tensor Make(DType dtype, Shape shape, const std::vector<T>& elements) {
  return {"OUT", dtype, std::move(shape), Slice::Copy(elements.data(), elements.size() * sizeof(T))};
}

// The elements of a BYTES tensor, each followed by a bar.
std::string Elements(const Tensor& tensor) {
  CHECK(tensor.dtype == DType::kBytes);
  CHECK(CheckBytes(tensor.data.view(), ElementCount(tensor.shape).value(), "classes").ok());
  std::string text;
  for (std::string_view data = tensor.data.view(); !data.empty();) {
    uint32_t length = 0;
    std::memcpy(&length, data.data(), sizeof(length));
    text.append(data.substr(sizeof(length), length)) += '|';
    data.remove_prefix(sizeof(length) + length);
  }
  return text;
}

std::string Classes(const Tensor& output, uint64_t count, bool batched, const std::vector<std::string>& labels = {}) {
  StatusOr<Tensor> classes = Classify(output, count, batched, labels);
  CHECK_EQ(classes.status().message(), "");
  CHECK_EQ(classes->name, "OUT");
  return ShapeText(classes->shape) + " " + Elements(classes.value());
}

TEST(Classification, OfTheWholeOutput) {
  const Tensor output = Make<float>(DType::kFp32, {2, 3}, {0.1f, 5, 5, -3.25f, 1e20f, 2});
  CHECK_EQ(Classes(output, 3, false), "[3] 100000002004087734272.000000:4|5.000000:1|5.000000:2|");
  CHECK_EQ(Classes(output, 6, false).substr(0, 4), "[6] ");
  CHECK_EQ(Classes(output, UINT64_MAX, false).substr(0, 4), "[6] ");
}

TEST(Classification, OfEachRow) {
  const Tensor output = Make<float>(DType::kFp32, {2, 3}, {0.1f, 5, 5, -3.25f, 1e20f, 2});
  CHECK_EQ(Classes(output, 2, true), "[2,2] 5.000000:1|5.000000:2|100000002004087734272.000000:1|2.000000:2|");
  CHECK_EQ(Classes(output, 9, true).substr(0, 6), "[2,3] ");
  const Tensor cube = Make<int32_t>(DType::kInt32, {2, 1, 2}, {1, 2, 4, 3});
  CHECK_EQ(Classes(cube, 1, true), "[2,1] 2:1|4:0|");
}

TEST(Classification, OfOneElementAndOfNone) {
  CHECK_EQ(Classes(Make<int8_t>(DType::kInt8, {}, {-5}), 4, true), "[1] -5:0|");
  CHECK_EQ(Classes(Make<int8_t>(DType::kInt8, {0}, {}), 4, false), "[0] ");
  CHECK_EQ(Classes(Make<int8_t>(DType::kInt8, {0, 3}, {}), 4, true), "[0,3] ");
  CHECK_EQ(Classes(Make<int8_t>(DType::kInt8, {3, 0}, {}), 4, true), "[3,0] ");
}

TEST(Classification, LabelsByIndex) {
  const Tensor output = Make<uint8_t>(DType::kUint8, {4}, {1, 7, 3, 100});
  CHECK_EQ(Classes(output, 9, false, {"zero", "one", "", "three,\xff"}), "[4] 100:3:three,\xff|7:1:one|3:2|1:0:zero|");
  CHECK_EQ(Classes(output, 9, false, {"zero"}), "[4] 100:3|7:1|3:2|1:0:zero|");
}

TEST(Classification, EveryOrderedType) {
  CHECK_EQ(Classes(Make<uint8_t>(DType::kUint8, {2}, {0, 255}), 9, false), "[2] 255:1|0:0|");
  CHECK_EQ(Classes(Make<uint16_t>(DType::kUint16, {2}, {0, 65535}), 9, false), "[2] 65535:1|0:0|");
  CHECK_EQ(Classes(Make<uint32_t>(DType::kUint32, {2}, {0, UINT32_MAX}), 9, false), "[2] 4294967295:1|0:0|");
  CHECK_EQ(Classes(Make<uint64_t>(DType::kUint64, {2}, {0, UINT64_MAX}), 9, false), "[2] 18446744073709551615:1|0:0|");
  CHECK_EQ(Classes(Make<int8_t>(DType::kInt8, {2}, {-128, 127}), 9, false), "[2] 127:1|-128:0|");
  CHECK_EQ(Classes(Make<int16_t>(DType::kInt16, {2}, {-32768, 5}), 9, false), "[2] 5:1|-32768:0|");
  CHECK_EQ(Classes(Make<int32_t>(DType::kInt32, {2}, {INT32_MIN, 5}), 9, false), "[2] 5:1|-2147483648:0|");
  CHECK_EQ(Classes(Make<int64_t>(DType::kInt64, {2}, {INT64_MIN, 5}), 9, false), "[2] 5:1|-9223372036854775808:0|");
  CHECK_EQ(Classes(Make<double>(DType::kFp64, {3}, {-1e-7, 123456789.123456789, 1e-5}), 9, false),
           "[3] 123456789.123457:1|0.000010:2|-0.000000:0|");
  const std::string largest = Classes(Make<double>(DType::kFp64, {1}, {-1.7976931348623157e308}), 9, false);
  CHECK_EQ(largest.size(), std::strlen("[1] -.000000:0|") + 309);
}

TEST(Classification, NotANumberIsLast) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK_EQ(Classes(Make<float>(DType::kFp32, {5}, {nan, -inf, nan, inf, 0}), 9, false),
           "[5] inf:3|0.000000:4|-inf:1|nan:0|nan:2|");
}

TEST(Classification, EqualElementsKeepTheirOrder) {
  const std::string all = Classes(Make<float>(DType::kFp32, {100}, std::vector<float>(100, 5)), 100, false);
  std::string expected = "[100] ";
  for (int i = 0; i < 100; ++i) expected += "5.000000:" + std::to_string(i) + "|";
  CHECK_EQ(all, expected);
}

TEST(Classification, ElementsAtAnyAddress) {
  const std::vector<double> elements = {1, 3, 2};
  std::string bytes(1, 'x');
  bytes.append(reinterpret_cast<const char*>(elements.data()), elements.size() * sizeof(double));
  const Tensor output{"OUT", DType::kFp64, {3}, Slice::Copy(bytes.data(), bytes.size()).Sub(1, bytes.size() - 1)};
  CHECK_EQ(Classes(output, 1, false), "[1] 3.000000:1|");
}

TEST(Classification, WhatCanNotBeClassified) {
  for (DType dtype : {DType::kBool, DType::kFp16, DType::kBf16, DType::kBytes}) {
    const Tensor output{"OUT", dtype, {1, 0}, Slice()};
    CHECK_EQ(Classify(output, 1, true, {}).status().message(),
             "class result not available for output due to unsupported type '" + std::string(DTypeName(dtype)) + "'");
    CHECK(Classify(output, 1, true, {}).status().code() == Code::kInvalidArg);
  }
  const std::vector<int8_t> elements(kMaxClassifiedElements + 1, 1);
  const auto count = static_cast<int64_t>(elements.size());
  CHECK(Classify(Make(DType::kInt8, {count}, elements), 1, false, {}).status().code() == Code::kInvalidArg);
  CHECK(Classify(Make(DType::kInt8, {1, count}, elements), 1, true, {}).status().code() == Code::kInvalidArg);
  CHECK(Classify(Make(DType::kInt8, {count, 1}, elements), 1, true, {}).ok());
  // what a model promises is checked before; this only must not be read
  CHECK(Classify(Make<int8_t>(DType::kInt8, {4}, {1, 2}), 1, false, {}).status().code() == Code::kInternal);
}

TEST(Classification, OfTheOutputsThatTheClientNames) {
  Request request(std::make_shared<NullSink>());
  auto model = std::make_shared<ModelSpec>(*Model({}, /*max_batch_size=*/8));
  model->outputs[0].labels = {"a", "b"};
  request.model = model;
  CHECK(!WantsClasses(request));
  request.requested_outputs = {{"TEXT"}, {"OUT", 1}};
  CHECK(WantsClasses(request));
  const Tensor text{"TEXT", DType::kBytes, {1, 0}, Slice()};
  StatusOr<std::vector<Tensor>> outputs = ClassifyOutputs(request, {text, Make<float>(DType::kFp32, {1, 2}, {1, 2})});
  CHECK(outputs.ok());
  CHECK_EQ(outputs.value()[0].name, "TEXT");
  CHECK_EQ(Elements(outputs.value()[1]), "2.000000:1:b|");
  request.requested_outputs[0].classification = 1;
  CHECK(!ClassifyOutputs(request, {text}).ok());
}

}  // namespace
}  // namespace pyinfer
