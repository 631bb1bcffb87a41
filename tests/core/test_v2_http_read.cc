// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <limits>

#include "check.h"
#include "infer/validate.h"
#include "protocol/v2_http.h"
#include "v2_http_fixtures.h"

namespace pyinfer {
namespace {

using testing::Model;
using testing::NullSink;
using testing::OneInput;

// A body that is read, and what came of it.
struct Read {
  explicit Read(std::string_view body, std::optional<std::string> header_length = {},
                std::shared_ptr<const ModelSpec> model = OneInput(DType::kFp32), size_t limit = size_t{1} << 20)
      : request(std::make_shared<NullSink>()) {
    request.model = std::move(model);
    status = v2_http::ReadRequest(Slice::Copy(body.data(), body.size()), header_length, limit, request, outputs);
  }
  Request request;
  v2_http::OutputFormat outputs;
  Status status;
};

std::string Input(std::string_view datatype, std::string_view shape, std::string_view rest) {
  return "{\"inputs\":[{\"name\":\"IN\",\"datatype\":\"" + std::string(datatype) +
         "\",\"shape\":" + std::string(shape) + "," + std::string(rest) + "}]}";
}

std::string With(std::string_view members) {
  return "{\"inputs\":[{\"name\":\"IN\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1]}]," + std::string(members) +
         "}";
}

// The error text, "" where there is none; all are the client's fault.
std::string Refusal(const Read& read) {
  CHECK(read.status.ok() || read.status.code() == Code::kInvalidArg);
  return read.status.message();
}

void CheckRefused(const Read& read, std::string_view text) {
  const std::string refusal = Refusal(read);
  if (refusal.empty() || refusal.find(text) == std::string::npos) {
    testing::Fail(__FILE__, __LINE__, "<" + refusal + "> does not say <" + std::string(text) + ">");
  }
}

template <typename T>
std::vector<T> Elements(const Tensor& tensor) {
  std::vector<T> elements(tensor.data.size() / sizeof(T));
  if (!elements.empty()) std::memcpy(elements.data(), tensor.data.data(), tensor.data.size());
  return elements;
}

template <typename T>
std::vector<T> ReadData(std::string_view datatype, std::string_view shape, std::string_view data) {
  Read read(Input(datatype, shape, "\"data\":" + std::string(data)));
  CHECK_EQ(Refusal(read), "");
  return Elements<T>(read.request.inputs[0]);
}

TEST(V2HttpRead, JsonData) {
  CHECK((ReadData<float>("FP32", "[2,2]", "[1, 2.5, -3e2, 0]") == std::vector<float>{1, 2.5, -300, 0}));
  CHECK((ReadData<double>("FP64", "[2,2]", "[[1,2],[3,4]]") == std::vector<double>{1, 2, 3, 4}));
  CHECK((ReadData<double>("FP64", "[2,2,1]", "[[[1],[2]],[[3],[4]]]") == std::vector<double>{1, 2, 3, 4}));
  CHECK((ReadData<uint8_t>("BOOL", "[2]", "[true,false]") == std::vector<uint8_t>{1, 0}));
  CHECK((ReadData<int8_t>("INT8", "[2]", "[-128,127]") == std::vector<int8_t>{-128, 127}));
  CHECK((ReadData<uint16_t>("UINT16", "[1]", "[65535]") == std::vector<uint16_t>{65535}));
  CHECK((ReadData<uint64_t>("UINT64", "[1]", "[18446744073709551615]") == std::vector<uint64_t>{UINT64_MAX}));
  CHECK((ReadData<int64_t>("INT64", "[1]", "[-9223372036854775808]") == std::vector<int64_t>{INT64_MIN}));
  CHECK((ReadData<float>("FP32", "[]", "[7]") == std::vector<float>{7}));
  CHECK(ReadData<float>("FP32", "[0]", "[]").empty());
  CHECK(ReadData<float>("FP32", "[4,0]", "[\"anything\"]").empty());
}

TEST(V2HttpRead, JsonStrings) {
  Read read(Input("BYTES", "[3]", "\"data\":[\"ab\",\"\",\"\\u00e9\\u0000\"]"));
  CHECK_EQ(Refusal(read), "");
  CHECK(read.request.inputs[0].data.view() == std::string_view("\2\0\0\0ab\0\0\0\0\3\0\0\0\xc3\xa9\0", 17));
}

TEST(V2HttpRead, RefusesJsonData) {
  struct Case {
    const char* datatype;
    const char* shape;
    const char* data;
    const char* text;
  };
  const Case cases[] = {{"FP32", "[2]", "[1]", "Shape does not match true shape of 'data' field"},
                        {"FP32", "[2]", "[1,2,3]", "Shape does not match true shape of 'data' field"},
                        {"FP32", "[2]", "[]", "Shape does not match true shape of 'data' field"},
                        {"FP32", "[4]", "[[1,2,3],[4]]", "ragged"},
                        {"FP32", "[3]", "[[1,2],3]", "ragged"},
                        {"FP32", "[3]", "[3,[1,2]]", "Shape does not match"},
                        {"FP32", "[2]", "[3,[1,2]]", "is not a number"},
                        {"FP32", "[2]", "[[[1]],[2]]", "ragged"},
                        {"FP32", "[1]", "[true]", "is not a number"},
                        {"FP32", "[1]", "[null]", "is not a number"},
                        {"FP32", "[1]", "[\"1\"]", "is not a number"},
                        {"FP32", "[1]", "[1e39]", "is not a number in the range of FP32"},
                        {"FP32", "[1]", "1", "non-array as array"},
                        {"FP64", "[1]", "[1e400]", "failed to parse the request JSON buffer"},
                        {"INT8", "[1]", "[128]", "is not an integer in the range of INT8"},
                        {"UINT32", "[1]", "[-1]", "is not an integer in the range of UINT32"},
                        {"INT64", "[1]", "[9223372036854775808]", "is not an integer"},
                        {"INT32", "[1]", "[1.5]", "is not an integer"},
                        {"BOOL", "[1]", "[1]", "is not a boolean"},
                        {"BYTES", "[1]", "[1]", "is not a string"},
                        {"FP16", "[1]", "[1]",
                         "receiving FP16 data via JSON is not supported. Please use the binary "
                         "data format for input IN"},
                        {"BF16", "[1]", "[1]", "receiving BF16 data via JSON is not supported"},
                        {"fp32", "[1]", "[1]", "invalid datatype for input IN: 'fp32'"},
                        {"FP32", "[-1]", "[1]", "Unable to parse 'shape'"},
                        {"FP32", "[1.0]", "[1]", "Unable to parse 'shape'"},
                        {"FP32", "[9223372036854775808]", "[1]", "Unable to parse 'shape'"},
                        {"FP32", "3", "[1]", "Unable to parse 'shape'"},
                        {"FP32", "[9223372036854775807]", "[1]", "too large"},
                        {"FP32", "[4294967296,4294967296]", "[1]", "too large"},
                        {"FP32", "[0,9223372036854775807,9223372036854775807]", "[]", "too large"}};
  for (const Case& item : cases) {
    CheckRefused(Read(Input(item.datatype, item.shape, "\"data\":" + std::string(item.data))), item.text);
  }
}

TEST(V2HttpRead, RefusesDocuments) {
  struct Case {
    std::string body;
    const char* text;
  };
  const Case cases[] = {
      {"", "failed to parse the request JSON buffer: "},
      {"[]", "failed to parse the request JSON buffer: "},
      {"{}", "Unable to parse 'inputs'"},
      {"{\"inputs\":{}}", "Unable to parse 'inputs'"},
      {"{\"inputs\":[1]}", "Unable to parse 'inputs'"},
      {"{\"inputs\":[{}]}", "Unable to parse 'name'"},
      {"{\"inputs\":[{\"name\":1}]}", "Unable to parse 'name'"},
      {"{\"inputs\":[],\"inputs\":[]}", "Duplicate member name"},
      {Input("FP32", "[1]", "\"data\":[1],\"data\":[1]"), "Duplicate member name"},
      {With("\"parameters\":{\"a\":1,\"a\":2}"), "Duplicate member name"},
      {With("\"outputs\":[{\"name\":\"OUT\",\"name\":\"OUT\"}]"), "Duplicate member name"},
      {With("\"id\":7"), "Unable to parse 'id'"},
      {With("\"id\":\"" + std::string(5000, 'x') + "\""), "at most 4096"},
      {With("\"id\":\"a\\nb\""), "control character"},
      {With("\"parameters\":[]"), "Unable to parse 'parameters'"},
      {With("\"parameters\":{\"a\":null}"),
       "parameter 'a' has invalid type. It should be either 'int', 'bool', or 'string'."},
      {With("\"parameters\":{\"a\":[1]}"), "has invalid type"},
      {With("\"parameters\":{\"a\":18446744073709551615}"), "has invalid type"},
      {With("\"parameters\":{\"triton_x\":1}"), "parameter keys starting with 'triton_' are reserved for Triton usage"},
      {With("\"parameters\":{\"binary_data_output\":1}"), "Unable to parse 'binary_data_output'"},
      {With("\"parameters\":{\"sequence_start\":1}"), "sequence_start"},
      {With("\"parameters\":{\"timeout\":-1}"), "timeout"},
      {With("\"parameters\":{\"priority\":\"high\"}"), "priority"},
      {With("\"outputs\":{}"), "Unable to parse 'outputs'"},
      {With("\"outputs\":[{\"name\":\"OUT\",\"parameters\":{\"binary_data\":1}}]"), "Unable to parse 'binary_data'"},
      {With("\"outputs\":[{\"name\":\"OUT\",\"parameters\":{\"classification\":-1}}]"),
       "Unable to parse 'classification'"},
      {With("\"outputs\":[{\"name\":\"OUT\",\"parameters\":{\"classification\":1.5}}]"),
       "Unable to parse 'classification'"},
      {With("\"outputs\":[{\"name\":\"OUT\",\"parameters\":{\"classification\":\"2\"}}]"),
       "Unable to parse 'classification'"},
      {Input("FP32", "[1]", "\"x\":0"), "shared_memory_region' in 'parameters'. But no field is set"},
      {Input("FP32", "[1]", "\"data\":[1],\"parameters\":{\"binary_data_size\":4}"),
       "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
       "'shared_memory_region' in 'parameters'. But set 'data' 'binary_data_size'"},
  };
  for (const Case& item : cases) CheckRefused(Read(item.body), item.text);
}

TEST(V2HttpRead, Parameters) {
  Read read(
      With("\"id\":\"i\",\"model_name\":\"ignored\",\"other\":[{}],\"parameters\":{\"s\":\"t\",\"i\":-5,\"b\":true,"
           "\"d\":0.5,\"sequence_id\":18446744073709551615,\"sequence_start\":true,\"sequence_end\":false,"
           "\"priority\":1,\"timeout\":1000,\"binary_data_output\":true}"));
  CHECK_EQ(Refusal(read), "");
  CHECK_EQ(read.request.id, "i");
  CHECK(read.outputs.binary_by_default);
  CHECK((read.request.parameters == Parameters{{"s", std::string("t")}, {"i", int64_t{-5}}, {"b", true}, {"d", 0.5}}));
}

TEST(V2HttpRead, RequestedOutputs) {
  Read read(
      With("\"outputs\":[{\"name\":\"TEXT\",\"parameters\":{\"binary_data\":true}},{\"name\":\"OUT\"}],"
           "\"parameters\":{\"binary_data_output\":true}"));
  CHECK_EQ(Refusal(read), "");
  CHECK_EQ(read.request.requested_outputs.at(0).name, "TEXT");
  CHECK_EQ(read.request.requested_outputs.at(1).name, "OUT");
  CHECK((read.outputs.binary == std::vector<bool>{true, false}));
  CHECK(Read(With("\"outputs\":[]")).request.requested_outputs.empty());
}

TEST(V2HttpRead, ManyInputsAndOutputsAreRefused) {
  std::string outputs = "\"outputs\":[{\"name\":\"OUT\"}";
  std::string inputs = "{\"inputs\":[{\"name\":\"IN\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1]}";
  for (int i = 0; i < 100000; ++i) outputs += ",{\"name\":\"OUT\"}";
  for (int i = 0; i < 100000; ++i) inputs += ",{}";
  Read many_outputs(With(outputs + "]"), {}, OneInput(DType::kFp32), size_t{64} << 20);
  CHECK_EQ(Refusal(many_outputs), "");
  CHECK_EQ(many_outputs.request.requested_outputs.size(), size_t{3});
  CHECK_EQ(ValidateRequest(many_outputs.request).message(), "output 'OUT' already exists in request");
  CheckRefused(Read(inputs + "]}"), "expected 1 inputs but got 100001 inputs for model 'm'");
}

TEST(V2HttpRead, BinaryInputs) {
  const std::string json =
      "{\"inputs\":[{\"name\":\"A\",\"datatype\":\"FP16\",\"shape\":[2],\"parameters\":{\"binary_data_size\":4}},"
      "{\"name\":\"B\",\"datatype\":\"UINT8\",\"shape\":[1],\"data\":[9]},"
      "{\"name\":\"C\",\"datatype\":\"UINT8\",\"shape\":[0],\"parameters\":{\"binary_data_size\":0}},"
      "{\"name\":\"D\",\"datatype\":\"UINT8\",\"shape\":[3],\"parameters\":{\"binary_data_size\":3}}]}";
  const std::string size = std::to_string(json.size());
  const auto model = Model({});
  Read read(json + "aaaaddd", size, model);
  CHECK_EQ(Refusal(read), "");
  CHECK_EQ(read.request.inputs[0].data.view(), "aaaa");
  CHECK_EQ(read.request.inputs[1].data.view(), "\x09");
  CHECK_EQ(read.request.inputs[2].data.view(), "");
  CHECK_EQ(read.request.inputs[3].data.view(), "ddd");
  CheckRefused(Read(json + "aaaadd", size, model),
               "unexpected size for input 'D', expecting 1 additional bytes for model 'm'");
  CheckRefused(Read(json + "aaaadddd", size, model), "unexpected additional input data for model 'm'");
  CheckRefused(Read(json + "aaaaddd", {}, model), "failed to parse the request JSON buffer");
  for (const char* wrong : {"-1", "1.5", "\"3\"", "18446744073709551616", "true"}) {
    CheckRefused(Read(Input("FP32", "[1]", "\"parameters\":{\"binary_data_size\":" + std::string(wrong) + "}")), "");
  }
  CheckRefused(Read(Input("FP32", "[1]", "\"parameters\":{\"binary_data_size\":18446744073709551615}")),
               "unexpected size for input 'IN', expecting 18446744073709551615 additional bytes");
}

TEST(V2HttpRead, HeaderLength) {
  const std::string json = Input("FP32", "[1]", "\"data\":[1]");
  const std::string size = std::to_string(json.size());
  CHECK_EQ(Refusal(Read(json, size)), "");
  for (const std::string& wrong : {std::string("-1"), std::to_string(json.size() + 1), std::string("2147483648"),
                                   std::string("123456789012345678901234567890")}) {
    CheckRefused(Read(json, wrong), "inference header size should be in range (0, " + size + "), got: " + wrong);
  }
  for (const char* wrong : {"", "x", "12x", " 12", "1e2", "10, 10", "+5", "0x10"}) {
    CheckRefused(Read(json, wrong), "Unable to parse Inference-Header-Content-Length, got: " + std::string(wrong));
  }
}

TEST(V2HttpRead, Limits) {
  const std::string json = Input("FP64", "[4]", "\"data\":[1,2,3,4]");
  const auto model = OneInput(DType::kFp64);
  CHECK_EQ(Refusal(Read(json, {}, model, json.size())), "");
  const std::string end = "Use --http-max-input-size to increase the limit.";
  CheckRefused(Read(json, {}, model, json.size() - 1), end);
  std::string zeros = "0";
  for (int i = 0; i < 99; ++i) zeros += ",0";
  const std::string long_data = Input("FP64", "[100]", "\"data\":[" + zeros + "]");
  CheckRefused(Read(long_data, {}, model, 799), end);
  CHECK_EQ(Refusal(Read(long_data, {}, model, 800)), "");
  CheckRefused(Read(std::string(16, 'x'), "0", model, 15), end);
  // Binary tensors are not limited.
  const std::string binary = Input("UINT8", "[900]", "\"parameters\":{\"binary_data_size\":900}");
  CHECK_EQ(Refusal(Read(binary + std::string(900, 'x'), std::to_string(binary.size()), model, binary.size())), "");
}

TEST(V2HttpRead, RawBody) {
  Read fixed("12345678", "0", Model({{"IN", DType::kFp32, {2}, {}, false}}));
  CHECK_EQ(Refusal(fixed), "");
  CHECK(fixed.request.inputs[0].shape == Shape{2});
  CHECK(fixed.outputs.binary_by_default);
  Read variable("12345678", "0", Model({{"IN", DType::kUint16, {2, -1}, {}, false}}, 8));
  CHECK((variable.request.inputs[0].shape == Shape{1, 2, 2}));
  Read text(std::string_view("a\0b", 3), "0", Model({{"IN", DType::kBytes, {1}, {}, false}}));
  CHECK(text.request.inputs[0].data.view() == std::string_view("\3\0\0\0a\0b", 7));
  CHECK_EQ(ValidateRequest(text.request).message(), "");
  Read empty("", "0", Model({{"IN", DType::kUint8, {-1}, {}, false}}));
  CHECK(empty.request.inputs[0].shape == Shape{0});

  CheckRefused(Read("1234", "0", Model({})), "Raw request must only have 1 input");
  CheckRefused(Read("1234", "0", Model({{"IN", DType::kFp32, {-1, -1}, {}, false}})), "more than one variable-sized");
  Read rest("12345", "0", Model({{"IN", DType::kFp32, {-1}, {}, false}}));
  CHECK_EQ(ValidateRequest(rest.request).message(),
           "[request id: <id_unknown>] input byte size mismatch for input 'IN' for model 'm'. Expected 4, got 5");
  CheckRefused(Read("12345", "0", Model({{"IN", DType::kBytes, {2}, {}, false}})), "input shape [1]");
}

TEST(V2HttpRead, EveryCutIsRefused) {
  const std::string json = With(
      "\"id\":\"x\",\"outputs\":[{\"name\":\"OUT\",\"parameters\":{\"binary_data\":true}}],\"parameters\":{\"a\":"
      "\"b\"}");
  CHECK_EQ(Refusal(Read(json)), "");
  for (size_t size = 0; size < json.size(); ++size) CheckRefused(Read(json.substr(0, size)), "failed to parse");
  for (size_t at = 0; at < json.size(); ++at) {
    for (const char byte : {'\0', '"', '[', '}', '\\', '9', '\xff'}) {
      std::string damaged = json;
      damaged[at] = byte;
      Refusal(Read(damaged));  // any answer but a crash or a server's fault
    }
  }
}

}  // namespace
}  // namespace pyinfer
