// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "check.h"
#include "protocol/v2_generate.h"
#include "v2_http_fixtures.h"

namespace pyinfer {
namespace {

using namespace testing;

constexpr size_t kLimit = size_t{1} << 20;

RequestPtr NewRequest(std::shared_ptr<const ModelSpec> model) {
  auto request = std::make_unique<Request>(std::make_shared<NullSink>());
  request->model = std::move(model);
  return request;
}

Slice Body(std::string_view json) { return Slice::Copy(json.data(), json.size()); }

// Inputs of many kinds.
std::shared_ptr<const ModelSpec> Kinds(int64_t max_batch_size = 0) {
  return Model({{"FLAT", DType::kInt32, {-1}, {}, true},
                {"FIXED", DType::kInt32, {2, 2}, {}, true},
                {"CUBE", DType::kInt32, {-1, -1, 2}, {}, true},
                {"TEXT", DType::kBytes, {1}, {}, true},
                {"HALF", DType::kFp16, {1}, {}, true},
                {"TRUTH", DType::kBool, {-1}, {}, true},
                {"NOTHING", DType::kInt32, {0, -1}, {}, true}},
               max_batch_size);
}

std::string ErrorOf(std::string_view json, const std::shared_ptr<const ModelSpec>& model = Kinds()) {
  const RequestPtr request = NewRequest(model);
  const Status status = v2_generate::ReadRequest(Body(json), kLimit, *request);
  CHECK(status.code() == Code::kInvalidArg);
  return status.message();
}

Tensor InputOf(std::string_view json, int64_t max_batch_size = 0) {
  const RequestPtr request = NewRequest(Kinds(max_batch_size));
  const Status status = v2_generate::ReadRequest(Body(json), kLimit, *request);
  CHECK_EQ(status.message(), "");
  CHECK_EQ(request->inputs.size(), size_t{1});
  return request->inputs[0];
}

TEST(V2Generate, MembersAreInputsOrParameters) {
  const RequestPtr request = NewRequest(Kinds());
  const Status status = v2_generate::ReadRequest(
      Body(
          R"({"a":"x","TEXT":"hé","id":"7","b":1.5,"parameters":{"FLAT":[1,2],"a":true,"parameters":-3},"priority":-1,)"
          R"("triton_x":2})"),
      kLimit, *request);
  CHECK_EQ(status.message(), "");
  CHECK_EQ(request->id, "7");
  const Parameters expected = {
      {"a", std::string("x")},   {"id", std::string("7")}, {"b", 1.5}, {"a", true}, {"parameters", int64_t{-3}},
      {"priority", int64_t{-1}}, {"triton_x", int64_t{2}}};
  CHECK(request->parameters == expected);
  CHECK_EQ(request->priority, uint64_t{0});
  CHECK_EQ(request->inputs.size(), size_t{2});
  CHECK_EQ(request->inputs[0].data.view(), std::string_view("\3\0\0\0h\xc3\xa9", 7));
  CHECK(request->inputs[1].shape == Shape{2});
}

TEST(V2Generate, ShapesFitTheElements) {
  CHECK(InputOf(R"({"FLAT":5})").shape == Shape{1});
  CHECK(InputOf(R"({"FLAT":[]})").shape == Shape{0});
  CHECK(InputOf(R"({"FLAT":[[1],[2]]})").shape == Shape{2});
  CHECK(InputOf(R"({"FLAT":[1,2]})", 8).shape == (Shape{1, 2}));
  CHECK(InputOf(R"({"FIXED":[1,2,3,4]})").shape == (Shape{2, 2}));
  CHECK(InputOf(R"({"FIXED":[1,2,3,4,5,6,7,8]})", 8).shape == (Shape{2, 2, 2}));
  CHECK(InputOf(R"({"CUBE":[1,2,3,4]})", 8).shape == (Shape{1, 1, 2, 2}));
  CHECK(InputOf(R"({"CUBE":[]})").shape == (Shape{1, 0, 2}));
  CHECK_EQ(InputOf(R"({"CUBE":[1,2]})").data.size(), size_t{8});
  CHECK_EQ(InputOf(R"({"TRUTH":true})").data.view(), "\1");
  CHECK_EQ(InputOf(R"({"TEXT":""})").data.view(), std::string_view("\0\0\0\0", 4));
  for (const char* bad :
       {R"({"FIXED":[1,2]})", R"({"FIXED":1})", R"({"FIXED":[]})", R"({"CUBE":[1,2,3]})", R"({"TEXT":["a","b"]})",
        R"({"NOTHING":1})", R"({"NOTHING":[]})", R"({"FIXED":[1,2,3,4,5,6,7,8]})"}) {
    CHECK(ErrorOf(bad).rfind("The schema can not convert input '", 0) == 0);
    CHECK(ErrorOf(bad).find("' to tensor with proper shape") != std::string::npos);
  }
}

TEST(V2Generate, ValuesAreChecked) {
  for (const char* bad : {R"({"FLAT":"x"})", R"({"FLAT":null})", R"({"FLAT":true})", R"({"FLAT":{"a":1}})",
                          R"({"FLAT":1.5})", R"({"FLAT":3000000000})", R"({"FLAT":[1,"x"]})"}) {
    CHECK_EQ(ErrorOf(bad),
             "Unable to parse 'data': an element of input 'FLAT' is not an integer in the range of INT32");
  }
  CHECK(ErrorOf(R"({"TEXT":5})").find("is not a string") != std::string::npos);
  CHECK(ErrorOf(R"({"TRUTH":1})").find("is not a boolean") != std::string::npos);
  for (const char* bad : {R"({"HALF":1})", R"({"HALF":[1]})"}) {
    CHECK_EQ(ErrorOf(bad),
             "receiving FP16 data via JSON is not supported. Please use the binary data format for input HALF");
  }
  CHECK(ErrorOf(R"({"FLAT":[[1,2],[3,4]]})").find("Shape does not match true shape of 'data' field") !=
        std::string::npos);
}

TEST(V2Generate, ErrorsOfTheNestedObjectSayWhere) {
  const std::string where = "Converting keyword: 'parameters': ";
  CHECK_EQ(ErrorOf(R"({"parameters":{"x":[1]}})"),
           where + "parameter 'x' has invalid type. It should be either 'int', 'bool', or 'string'.");
  CHECK_EQ(ErrorOf(R"({"parameters":{"FIXED":1}})"),
           where + "The schema can not convert input 'FIXED' to tensor with proper shape");
  CHECK_EQ(ErrorOf(R"({"FLAT":1,"parameters":{"FLAT":1}})"),
           where + "[request id: <id_unknown>] input 'FLAT' already exists in request");
  CHECK_EQ(ErrorOf(R"({"parameters":{"FLAT":1},"FLAT":1,"id":"q"})"),
           "[request id: q] input 'FLAT' already exists in request");
  for (const char* bad : {R"({"parameters":5})", R"({"parameters":null})", R"({"parameters":[1]})"}) {
    CHECK_EQ(ErrorOf(bad),
             "Expected JSON object for keyword: 'parameters': attempt to access JSON non-object as object");
  }
  CHECK_EQ(ErrorOf(R"({"parameters":{}})", Model({{"parameters", DType::kInt32, {-1}, {}, false}})),
           "Keyword 'parameters' for nested schema also given as input tensor name");
}

TEST(V2Generate, DocumentsAreChecked) {
  for (const char* bad : {"", "x", "{\"FLAT\":1", "{\"FLAT\":1e400}"}) {
    CHECK(ErrorOf(bad).rfind("failed to parse the request JSON buffer: ", 0) == 0);
  }
  for (const char* bad : {"[]", "null", "5", "\"x\""}) CHECK_EQ(ErrorOf(bad), "attempt to get members for non-object");
  CHECK(ErrorOf(R"({"FLAT":1,"FLAT":2})").find("Duplicate member name") != std::string::npos);
  CHECK(ErrorOf(R"({"parameters":{"a":1,"a":2}})").find("Duplicate member name") != std::string::npos);
  CHECK_EQ(ErrorOf(R"({"id":5})"), "Unable to parse 'id': attempt to access JSON non-string as string");
  CHECK(ErrorOf(R"({"id":"\u0001"})").find("control character") != std::string::npos);
  CHECK(ErrorOf(R"({"x":null})").rfind("parameter 'x' has invalid type.", 0) == 0);
  CHECK(ErrorOf(R"({"priority":18446744073709551615})").rfind("parameter 'priority' has invalid type.", 0) == 0);
  const RequestPtr request = NewRequest(Kinds());
  const Status status = v2_generate::ReadRequest(Body("{\"FLAT\": [1, 2, 3]}"), 10, *request);
  CHECK(status.message().find("Use --http-max-input-size to increase the limit.") != std::string::npos);
}

Response Outputs(std::vector<Tensor> outputs) {
  Response response;
  response.outputs = std::move(outputs);
  return response;
}

Tensor Numbers(std::string name, Shape shape, const std::vector<float>& values) {
  return {std::move(name), DType::kFp32, std::move(shape), Slice::Copy(values.data(), values.size() * sizeof(float))};
}

TEST(V2Generate, WritesMembersInTheOrderOfTheirNames) {
  const RequestPtr request = NewRequest(Kinds());
  Response response = Outputs({Numbers("z", {1, 1}, {1.5F}), Numbers("OUT", {2}, {1, 2}), Numbers("EMPTY", {0}, {})});
  response.parameters = {{"mid", true}, {"text", std::string("a\nb")}, {"model_name", std::string("hidden")}};
  CHECK_EQ(v2_generate::WriteResponse(*request, response).value(),
           R"({"EMPTY":[],"OUT":[1.0,2.0],"mid":true,"model_name":"m","model_version":"3","text":"a\nb","z":1.5})");
  request->id = "7\"";
  CHECK_EQ(v2_generate::WriteResponse(*request, Outputs({})).value(),
           R"({"id":"7\"","model_name":"m","model_version":"3"})");
}

TEST(V2Generate, WritesTexts) {
  const RequestPtr request = NewRequest(Kinds());
  const std::string raw("\4\0\0\0\xff\n\"]", 8);
  const Tensor text{"T", DType::kBytes, {1}, Slice::Copy(raw.data(), raw.size())};
  CHECK_EQ(v2_generate::WriteResponse(*request, Outputs({text})).value(),
           "{\"T\":\"\xff\\n\\\"]\",\"model_name\":\"m\",\"model_version\":\"3\"}");
}

TEST(V2Generate, WhatCanNotBeWrittenIsAnError) {
  const RequestPtr request = NewRequest(Kinds());
  CHECK(v2_generate::WriteResponse(*request, Response::Error(Status::NotFound("no"))).status().message() == "no");
  const Tensor half{"H", DType::kFp16, {1}, Slice::Copy("ab", 2)};
  CHECK(
      v2_generate::WriteResponse(*request, Outputs({half})).status().message().rfind("sending FP16 data via JSON", 0) ==
      0);
}

}  // namespace
}  // namespace pyinfer
