// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "check.h"
#include "proto.h"
#include "protocol/error_map.h"
#include "protocol/parameters.h"
#include "protocol/v2_grpc.h"
#include "scheduling.h"

namespace pyinfer {
namespace {

using testing::Field;
using testing::InputField;
using testing::KeepingSink;
using testing::Number;
using testing::Packed;
using testing::Raw;
using testing::Varint;

struct Read {
  explicit Read(const std::string& message)
      : slice(Slice(Buffer::FromString(message))), status(v2_grpc::ReadRequest(slice, request)) {}

  void CheckRefused(std::string_view text) const {
    CHECK_EQ(status.message(), text);
    CHECK(status.code() == Code::kInvalidArg);
  }

  Slice slice;
  Request request{std::make_shared<KeepingSink>()};
  Status status;
};

// A request of one input with these contents, that is a field of InferTensorContents.
Read WithContents(std::string_view datatype, const std::string& contents, std::vector<int64_t> shape = {2}) {
  return Read(Field(1, "m") + InputField("A", datatype, shape, Field(5, contents)));
}

std::string Parameter(std::string_view name, const std::string& value) {
  return Field(4, Field(1, name) + Field(2, value));
}

// What lies apart is a tensor, or the message is not taken for what it says.
TEST(V2Grpc, RawContentsMayLieApart) {
  const std::string before = Field(1, "m") + InputField("A", "UINT8", {3}) + InputField("B", "UINT8", {4});
  const std::string message = before + Field(7, "???") + Field(7, "here");
  const size_t offset = before.size() + 2;
  const auto read = [&](std::vector<ApartBytes> apart, Request& request) {
    ReceivedMessage received(Slice::Copy(message.data(), message.size()));
    received.apart = std::move(apart);
    return v2_grpc::ReadRequest(received, request);
  };
  Request request{std::make_shared<KeepingSink>()};
  CHECK(read({{offset, Slice::Copy("abc", 3)}}, request).ok());
  CHECK_EQ(request.inputs.at(0).data.view(), "abc");
  CHECK_EQ(request.inputs.at(1).data.view(), "here");
  for (const ApartBytes& wrong : std::vector<ApartBytes>{
           {offset + 1, Slice::Copy("bc", 2)}, {offset, Slice::Copy("abcd", 4)}, {2, Slice::Copy("m", 1)}}) {
    Request refused{std::make_shared<KeepingSink>()};
    CHECK(read({wrong}, refused).code() == Code::kInternal);
  }
}

TEST(V2Grpc, ReadsRawContents) {
  const std::string a = Raw<float>({1, 2});
  const Read read(Field(1, "m") + Field(2, "3") + Field(3, "id") + InputField("A", "FP32", {1, 2}) +
                  InputField("B", "UINT8", {1}) + Field(6, Field(1, "X")) + Field(7, a) + Field(7, "z"));
  CHECK(read.status.ok());
  CHECK_EQ(read.request.model_name, "m");
  CHECK_EQ(read.request.model_version, int64_t{3});
  CHECK_EQ(read.request.id, "id");
  CHECK_EQ(read.request.inputs.size(), size_t{2});
  CHECK_EQ(read.request.inputs[0].data.view(), a);
  CHECK_EQ(ShapeText(read.request.inputs[0].shape), "[1,2]");
  // The data stays in the message.
  CHECK(read.request.inputs[1].data.data() > read.slice.data());
  CHECK(read.request.inputs[1].data.data() < read.slice.data() + read.slice.size());
  CHECK_EQ(read.request.requested_outputs.at(0).name, "X");
}

TEST(V2Grpc, AnEmptyMessage) {
  const Read read("");
  CHECK(read.status.ok());
  CHECK_EQ(read.request.model_version, int64_t{-1});
}

TEST(V2Grpc, UnpackedShapesAndUnknownFields) {
  const Read read(Number(99, 5) + Field(1, "m") + Varint(98 << 3 | 5) + "abcd" + Varint(97 << 3 | 1) + "abcdefgh" +
                  Field(5, Field(1, "A") + Field(2, "INT8") + Number(3, 2) + Number(3, -1) + Field(77, "x")) +
                  Field(7, "ab"));
  CHECK(read.status.ok());
  CHECK_EQ(ShapeText(read.request.inputs[0].shape), "[2,-1]");
}

TEST(V2Grpc, TypedContentsOfEveryType) {
  const std::vector<std::pair<const char*, std::pair<std::string, std::string>>> cases = {
      {"BOOL", {Field(1, Packed({1, 0})), Raw<uint8_t>({1, 0})}},
      {"INT8", {Field(2, Packed({-128, 127})), Raw<int8_t>({-128, 127})}},
      {"INT16", {Field(2, Packed({-32768, 32767})), Raw<int16_t>({-32768, 32767})}},
      {"INT32", {Field(2, Packed({INT32_MIN, INT32_MAX})), Raw<int32_t>({INT32_MIN, INT32_MAX})}},
      {"INT64", {Field(3, Packed({INT64_MIN, INT64_MAX})), Raw<int64_t>({INT64_MIN, INT64_MAX})}},
      {"UINT8", {Field(4, Packed({0, 255})), Raw<uint8_t>({0, 255})}},
      {"UINT16", {Field(4, Packed({0, 65535})), Raw<uint16_t>({0, 65535})}},
      {"UINT32", {Field(4, Packed({0, UINT32_MAX})), Raw<uint32_t>({0, UINT32_MAX})}},
      {"UINT64", {Field(5, Packed({0, -1})), Raw<uint64_t>({0, UINT64_MAX})}},
      {"FP32", {Field(6, Raw<float>({1.5F, -2})), Raw<float>({1.5F, -2})}},
      {"FP64", {Field(7, Raw<double>({1.5, -2})), Raw<double>({1.5, -2})}},
      {"BYTES", {Field(8, std::string("a\0", 2)) + Field(8, ""), std::string("\2\0\0\0a\0\0\0\0\0", 10)}},
  };
  for (const auto& [datatype, data] : cases) {
    const Read read = WithContents(datatype, data.first);
    CHECK_EQ(std::string(datatype) + read.status.message(), datatype);
    CHECK_EQ(read.request.inputs[0].data.view(), data.second);
  }
  // In single form, in several fields, and mixed.
  CHECK_EQ(WithContents("INT8", Number(2, 1) + Field(2, Packed({2, 3})) + Number(2, -4)).request.inputs[0].data.view(),
           "\x01\x02\x03\xFC");
}

TEST(V2Grpc, TypedContentsOfAnotherWireType) {
  const std::string malformed = "failed to parse the request: it is not a valid ModelInferRequest message";
  const auto fixed32 = [](uint32_t number) { return Varint(number << 3 | 5) + Raw<uint32_t>({1}); };
  const auto fixed64 = [](uint32_t number) { return Varint(number << 3 | 1) + Raw<uint64_t>({1}); };
  const std::vector<std::pair<const char*, uint32_t>> integers = {
      {"BOOL", 1}, {"INT32", 2}, {"INT64", 3}, {"UINT32", 4}, {"UINT64", 5}};
  for (const auto& [datatype, field] : integers) {
    WithContents(datatype, fixed32(field)).CheckRefused(malformed);
    WithContents(datatype, fixed64(field)).CheckRefused(malformed);
  }
  for (const auto& number : {Number(6, 1) + Number(6, 1), fixed64(6)})
    WithContents("FP32", number).CheckRefused(malformed);
  for (const auto& number : {Number(7, 1) + Number(7, 1), fixed32(7)})
    WithContents("FP64", number).CheckRefused(malformed);
  for (const auto& number : {Number(8, 1), fixed32(8), fixed64(8)})
    WithContents("BYTES", number).CheckRefused(malformed);
  CHECK_EQ(WithContents("FP32", fixed32(6)).request.inputs[0].data.view(), Raw<uint32_t>({1}));
}

TEST(V2Grpc, TypedContentsThatDoNotFit) {
  const std::string where = "input tensor 'A' for model 'm'";
  WithContents("INT8", Field(2, Packed({1, 128})))
      .CheckRefused("an element of " + where + " does not fit datatype 'INT8'");
  WithContents("UINT16", Field(4, Packed({65536})))
      .CheckRefused("an element of " + where + " does not fit datatype 'UINT16'");
  WithContents("FP32", Field(3, Packed({1})))
      .CheckRefused("unexpected explicit tensor data for " + where + " of type 'INT64', expected datatype 'FP32'");
  WithContents("FP16", Field(6, Raw<float>({1})))
      .CheckRefused("unexpected explicit tensor data for " + where + " of type 'FP32', expected datatype 'FP16'");
  WithContents("INT32", Field(2, Packed({1})) + Field(3, Packed({1})))
      .CheckRefused("unexpected explicit tensor data for " + where + ", binary data was already supplied.");
  for (const char* datatype : {"", "fp32", "FP8"}) {
    WithContents(datatype, "").CheckRefused("invalid datatype '" + std::string(datatype) + "' of " + where);
  }
}

TEST(V2Grpc, DataThatIsMissingOrTooMuch) {
  const std::string input = InputField("A", "INT8", {1});
  Read(Field(1, "m") + input).CheckRefused("unable to find data for input tensor 'A' for model 'm' in request.");
  Read(Field(1, "m") + input + InputField("B", "INT8", {1}) + Field(7, "a"))
      .CheckRefused("unable to find data for input tensor 'B' for model 'm' in request.");
  Read(Field(1, "m") + input + Field(7, "a") + Field(7, "b"))
      .CheckRefused("raw_input_contents has 2 entries for 1 inputs of model 'm'");
  Read(Field(1, "m") + InputField("A", "INT8", {1}, Field(5, Field(2, Packed({1})))) + Field(7, "a"))
      .CheckRefused("contents field must not be specified when using raw_input_contents for 'A' for model 'm'");
  const Read empty(Field(1, "m") + InputField("A", "INT8", {0}));
  CHECK(empty.status.ok());
}

TEST(V2Grpc, Versions) {
  for (const char* version : {"-1", "1e3", "x", " 1", "1 "}) {
    Read(Field(1, "m") + Field(2, version))
        .CheckRefused("failed to get model version from specified version string '" + std::string(version) +
                      "' (version must be a non-negative integer)");
  }
  CHECK_EQ(Read(Field(2, "0")).request.model_version, int64_t{0});
}

TEST(V2Grpc, Ids) {
  CHECK(Read(Field(3, std::string(4096, 'i'))).status.ok());
  CHECK(Read(Field(3, std::string(4097, 'i'))).status.code() == Code::kInvalidArg);
  CHECK(Read(Field(3, "a\nb")).status.code() == Code::kInvalidArg);
}

TEST(V2Grpc, Parameters) {
  const Read read(Parameter("b", Number(1, 1)) + Parameter("i", Number(2, -5)) + Parameter("s", Field(3, "text")) +
                  Parameter("d", Varint(4 << 3 | 1) + Raw<double>({2.5})) + Parameter("priority", Number(5, 7)) +
                  Parameter("timeout", Number(2, 100)) + Parameter("sequence_start", Number(1, 0)));
  CHECK(read.status.ok());
  const Parameters& parameters = read.request.parameters;
  CHECK_EQ(parameters.size(), size_t{4});
  CHECK(std::get<bool>(parameters[0].second));
  CHECK_EQ(std::get<int64_t>(parameters[1].second), int64_t{-5});
  CHECK_EQ(std::get<std::string>(parameters[2].second), "text");
  CHECK_EQ(std::get<double>(parameters[3].second), 2.5);
}

TEST(V2Grpc, ParametersThatAreRefused) {
  Read(Parameter("p", "")).CheckRefused("invalid value for parameter 'p': none of its fields is set");
  Read(Parameter("p", Number(5, 1)))
      .CheckRefused(
          "parameter 'p' has invalid type. It should be either 'int64_param', 'bool_param', 'string_param' or "
          "'double_param'.");
  Read(Parameter("priority", Number(2, -1)))
      .CheckRefused("parameter 'priority' has invalid type, expecting a non-negative integer");
  Read(Parameter("timeout", Field(3, "1")))
      .CheckRefused("parameter 'timeout' has invalid type, expecting a non-negative integer");
  Read(Parameter("sequence_end", Number(2, 1)))
      .CheckRefused("parameter 'sequence_end' has invalid type, expecting a boolean");
  Read(Parameter("sequence_id", Number(1, 1)))
      .CheckRefused("parameter 'sequence_id' has invalid type, expecting an integer or a string");
  for (const std::string& value : {Number(1, 1), std::string()}) {
    Read(Parameter("triton_x", value))
        .CheckRefused(
            "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified, got "
            "'triton_x'");
  }
  CHECK_EQ(Read(InputField("A", "INT8", {1},
                           Parameter("shared_memory_region", Field(3, "r")) +
                               Parameter("shared_memory_byte_size", Number(2, 1))))
               .status.message(),
           "Unable to find shared memory region: 'r'");
}

TEST(V2Grpc, Classification) {
  const auto wish = [](const std::string& value) {
    return Field(6, Field(1, "X") + Field(2, Field(1, "classification") + Field(2, value)));
  };
  const Read read(wish(Number(2, 3)));
  CHECK(read.status.ok());
  CHECK_EQ(read.request.requested_outputs[0].name, "X");
  CHECK_EQ(read.request.requested_outputs[0].classification, uint64_t{3});
  for (const std::string& value : {Number(1, 1), Field(3, "3"), Number(5, 3), std::string()}) {
    Read(wish(value)).CheckRefused("invalid value type for 'classification' parameter, expected int64_param");
  }
  for (int64_t count : {int64_t{0}, int64_t{-1}}) {
    Read(wish(Number(2, static_cast<uint64_t>(count))))
        .CheckRefused("invalid value for 'classification' parameter, expected >= 0");
  }
}

TEST(V2Grpc, MessagesThatAreNone) {
  const std::string good = Field(1, "m") + Field(3, "id") + Parameter("s", Field(3, "text")) +
                           InputField("A", "INT8", {2}, Field(5, Field(2, Packed({1, 2})))) + Field(6, Field(1, "X"));
  CHECK(Read(good).status.ok());
  for (size_t size = 1; size < good.size(); ++size) {
    const Read cut(good.substr(0, size));  // not all are wrong, but none may be read past its end
    CHECK(cut.status.ok() || cut.status.code() == Code::kInvalidArg);
  }
  const std::string_view text = "failed to parse the request: it is not a valid ModelInferRequest message";
  Read(good.substr(0, good.size() - 1)).CheckRefused(text);
  Read(std::string(11, '\xFF')).CheckRefused(text);
  Read(Varint(1 << 3 | 3)).CheckRefused(text);      // a group
  Read(Varint(1 << 3 | 7)).CheckRefused(text);      // no such wire type
  Read(std::string("\0\0", 2)).CheckRefused(text);  // field 0
  Read(Field(1, "\xFF"))
      .CheckRefused("failed to parse the request: a string field of ModelInferRequest is not valid UTF-8");
  Read(Field(5, Varint(3 << 3 | 2) + Varint(3) + "\x80\x80\x80")).CheckRefused(text);  // a varint without end
  Read(WithContents("FP32", Field(6, "abc")).slice.size()
           ? Field(1, "m") + InputField("A", "FP32", {1}, Field(5, Field(6, "abc")))
           : "")
      .CheckRefused(text);  // no whole number of floats
}

TEST(V2Grpc, AnyByteMayBeWrong) {
  const std::string good = Field(1, "m") + Field(2, "1") + Parameter("s", Field(3, "text")) +
                           InputField("A", "INT8", {2}) + InputField("B", "BYTES", {1}) + Field(6, Field(1, "X")) +
                           Field(7, "ab") + Field(7, std::string("\1\0\0\0x", 5));
  CHECK(Read(good).status.ok());
  for (size_t at = 0; at < good.size(); ++at) {
    for (const int flip : {0x01, 0x02, 0x04, 0x80, 0xFF}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ flip);
      const Read read(bad);
      CHECK(read.status.ok() || read.status.code() == Code::kInvalidArg);
    }
  }
}

TEST(V2Grpc, WritesAnswers) {
  ModelSpec spec = testing::IntModel({});
  spec.version_text = "12";
  Request request(std::make_shared<KeepingSink>());
  request.model = testing::Shared(std::move(spec));
  request.id = "r";
  Response response;
  const Slice large(Buffer::FromString(std::string(20000, 'x')));
  response.outputs.push_back({"OUT", DType::kInt8, {2, -1}, Slice(Buffer::FromString("ab"))});
  response.outputs.push_back({"TEXT", DType::kBytes, {1}, large});
  response.parameters = {{"b", true}, {"i", int64_t{-1}}, {"d", 0.5}, {"s", std::string("t")}};
  StatusOr<Output> output = v2_grpc::WriteResponse(request, response);
  CHECK(output.ok());
  std::string bytes;
  for (const Slice& piece : output->pieces()) bytes += piece.view();
  bytes += output->tail();
  const auto parameter = [](std::string_view name, const std::string& value) {
    return Field(4, Field(1, name) + Field(2, value));
  };
  const std::string expected = Field(1, "m") + Field(2, "12") + Field(3, "r") + parameter("b", Number(1, 1)) +
                               parameter("i", Number(2, -1)) + parameter("d", Varint(4 << 3 | 1) + Raw<double>({0.5})) +
                               parameter("s", Field(3, "t")) +
                               Field(5, Field(1, "OUT") + Field(2, "INT8") + Field(3, Packed({2, -1}))) +
                               Field(5, Field(1, "TEXT") + Field(2, "BYTES") + Field(3, Packed({1}))) + Field(6, "ab") +
                               Field(6, std::string(20000, 'x'));
  CHECK(bytes == testing::Framed(expected));
  // The large one is shared.
  CHECK(output->pieces().back().data() == large.data());
}

TEST(ErrorMap, IsOneTable) {
  CHECK_EQ(ErrorTable().size(), size_t{11});
  for (const ErrorRow& row : ErrorTable()) {
    CHECK(&ErrorRowOf(row.code) == &row);
    if (row.code != Code::kOk) CHECK(CodeOfName(row.name) == row.code);
  }
  CHECK(CodeOfName("OK") == Code::kInternal);
  CHECK(CodeOfName("") == Code::kInternal);
  const ErrorRow& invalid = ErrorRowOf(Code::kInvalidArg);
  CHECK(invalid.http_status == 400 && invalid.grpc_status == 3 && invalid.name == "INVALID_ARG");
  const ErrorRow& unavailable = ErrorRowOf(Code::kUnavailable);
  CHECK(unavailable.http_status == 503 && unavailable.grpc_status == 14);
}

}  // namespace
}  // namespace pyinfer
