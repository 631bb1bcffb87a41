// SPDX-License-Identifier: Apache-2.0
#include "check.h"
#include "protocol/v2_http.h"
#include "v2_http_fixtures.h"

namespace pyinfer {
namespace {

using testing::NullSink;
using testing::OneInput;

std::string Bytes(const Output& output) {
  std::string bytes;
  for (const Slice& piece : output.pieces()) bytes += piece.view();
  bytes += output.tail();
  CHECK_EQ(bytes.size(), output.size());
  return bytes;
}

template <typename T>
Tensor Make(std::string name, DType dtype, Shape shape, std::vector<T> elements) {
  return {std::move(name), dtype, std::move(shape), Slice::Copy(elements.data(), elements.size() * sizeof(T))};
}

std::string Write(Response response, const v2_http::AnswerFormat& format = {},
                  std::vector<std::string> requested = {}) {
  Request request(std::make_shared<NullSink>());
  request.model = OneInput(DType::kFp32);
  request.id = "7";
  for (std::string& name : requested) request.requested_outputs.push_back({std::move(name)});
  return Bytes(v2_http::WriteResponse(request, response, format));
}

std::string Answer(std::string_view headers, std::string_view body) {
  return "HTTP/1.1 200 OK\r\n" + std::string(headers) + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
         std::string(body);
}

TEST(V2HttpWrite, Json) {
  Response response;
  response.outputs = {Make<float>("OUT", DType::kFp32, {1, 3}, {1, 0.5f, -2e20f}),
                      {"TEXT", DType::kBytes, {2}, Slice::Copy("\1\0\0\0\"\2\0\0\0\xff\n", 11)},
                      Make<uint8_t>("B", DType::kBool, {2}, {1, 0}),
                      Make<int8_t>("I", DType::kInt8, {1}, {-1}),
                      Make<uint64_t>("U", DType::kUint64, {1}, {UINT64_MAX}),
                      Make<float>("E", DType::kFp32, {0}, {})};
  response.parameters = {{"a", int64_t{1}}, {"b", std::string("x")}, {"c", true}, {"d", 0.5}};
  CHECK_EQ(
      Write(std::move(response)),
      Answer(
          "Content-Type: application/json\r\n",
          "{\"id\":\"7\",\"model_name\":\"m\",\"model_version\":\"3\",\"parameters\":{\"a\":1,\"b\":\"x\",\"c\":true,"
          "\"d\":0.5},\"outputs\":["
          "{\"name\":\"OUT\",\"datatype\":\"FP32\",\"shape\":[1,3],\"data\":[1.0,0.5,-2e+20]},"
          "{\"name\":\"TEXT\",\"datatype\":\"BYTES\",\"shape\":[2],\"data\":[\"\\\"\",\"\xff\\n\"]},"
          "{\"name\":\"B\",\"datatype\":\"BOOL\",\"shape\":[2],\"data\":[true,false]},"
          "{\"name\":\"I\",\"datatype\":\"INT8\",\"shape\":[1],\"data\":[-1]},"
          "{\"name\":\"U\",\"datatype\":\"UINT64\",\"shape\":[1],\"data\":[18446744073709551615]},"
          "{\"name\":\"E\",\"datatype\":\"FP32\",\"shape\":[0],\"data\":[]}]}"));
}

TEST(V2HttpWrite, BinaryAndMixed) {
  Response response;
  response.outputs = {Make<uint8_t>("OUT", DType::kUint8, {2}, {65, 66}),
                      Make<uint8_t>("TEXT", DType::kUint8, {1}, {67})};
  v2_http::AnswerFormat format;
  format.outputs.binary = {false, true};
  const std::string json =
      "{\"id\":\"7\",\"model_name\":\"m\",\"model_version\":\"3\",\"outputs\":["
      "{\"name\":\"OUT\",\"datatype\":\"UINT8\",\"shape\":[2],\"parameters\":{\"binary_data_size\":2}},"
      "{\"name\":\"TEXT\",\"datatype\":\"UINT8\",\"shape\":[1],\"data\":[67]}]}";
  CHECK_EQ(Write(response, format, {"TEXT", "OUT"}),
           Answer("Content-Type: application/octet-stream\r\nInference-Header-Content-Length: " +
                      std::to_string(json.size()) + "\r\n",
                  json + "AB"));
  format.outputs.binary = {};
  format.outputs.binary_by_default = true;
  CHECK(Write(response, format).find("]}ABC") != std::string::npos);
}

TEST(V2HttpWrite, EmptyBinaryOutputsAreJson) {
  Response response;
  response.outputs = {Make<float>("OUT", DType::kFp16, {0}, {})};
  v2_http::AnswerFormat format;
  format.outputs.binary_by_default = true;
  CHECK_EQ(
      Write(response, format),
      Answer("Content-Type: application/json\r\n",
             "{\"id\":\"7\",\"model_name\":\"m\",\"model_version\":\"3\",\"outputs\":[{\"name\":\"OUT\",\"datatype\":"
             "\"FP16\",\"shape\":[0],\"parameters\":{\"binary_data_size\":0}}]}"));
}

TEST(V2HttpWrite, LargeTensorsAreShared) {
  Request request(std::make_shared<NullSink>());
  request.model = OneInput(DType::kFp32);
  Response response;
  response.outputs = {Make<float>("OUT", DType::kFp32, {10000}, std::vector<float>(10000, 1.5f))};
  v2_http::AnswerFormat format;
  format.outputs.binary_by_default = true;
  const Output output = v2_http::WriteResponse(request, response, format);
  CHECK_EQ(output.pieces().size(), size_t{2});
  CHECK(output.pieces()[1].data() == response.outputs[0].data.data());
}

TEST(V2HttpWrite, Compressed) {
  Response response;
  response.outputs = {Make<uint8_t>("OUT", DType::kUint8, {2}, {65, 66})};
  v2_http::AnswerFormat format;
  format.outputs.binary_by_default = true;
  const std::string plain = Write(response, format);
  const std::string plain_body = plain.substr(plain.find("\r\n\r\n") + 4);
  for (Compression compression : {Compression::kGzip, Compression::kDeflate}) {
    format.compression = compression;
    const std::string answer = Write(response, format);
    CHECK(answer.find("Content-Encoding: " + std::string(CompressionName(compression)) + "\r\n") != std::string::npos);
    CHECK(answer.find("Inference-Header-Content-Length: " + std::to_string(plain_body.size() - 2) + "\r\n") !=
          std::string::npos);
    const std::string body = answer.substr(answer.find("\r\n\r\n") + 4);
    CHECK(answer.find("Content-Length: " + std::to_string(body.size()) + "\r\n\r\n") != std::string::npos);
    CHECK_EQ(Decompress(compression, Slice::Copy(body.data(), body.size()), 10000).value().view(), plain_body);
  }
}

TEST(V2HttpWrite, Errors) {
  const std::string answer = Write(Response::Error(Status::InvalidArg("a \"b\"\n")));
  CHECK_EQ(answer,
           "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n"
           "{\"error\":\"a \\\"b\\\"\\n\"}");
  CHECK_EQ(Write(Response::Error(Status::Unavailable("x"))).substr(0, 34), "HTTP/1.1 503 Service Unavailable\r\n");
  Response half;
  half.outputs = {Make<uint16_t>("OUT", DType::kFp16, {1}, {1})};
  CHECK(Write(half).find("{\"error\":\"sending FP16 data via JSON is not supported.") != std::string::npos);
  Response broken;
  broken.outputs = {{"TEXT", DType::kBytes, {1}, Slice::Copy("\x09\0\0\0x", 5)}};
  CHECK_EQ(Write(broken).substr(0, 12), "HTTP/1.1 500");
  CHECK_EQ(Write(Response::Error(Status::InvalidArg(std::string(1 << 20, 'x')))).size() < 10000, true);
  CHECK(Bytes(v2_http::WriteError(Status::InvalidArg("x"), false)).find("Connection: close\r\n") != std::string::npos);
  CHECK_EQ(Bytes(v2_http::WriteUnknownCompression(true)),
           "HTTP/1.1 415 Unsupported Media Type\r\nAccept-Encoding: gzip, deflate\r\nContent-Type: application/json\r\n"
           "Content-Length: 40\r\n\r\n{\"error\":\"Unsupported compression type\"}");
}

}  // namespace
}  // namespace pyinfer
