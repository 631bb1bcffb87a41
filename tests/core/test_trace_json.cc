// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "check.h"
#include "telemetry/trace_events.h"
#include "telemetry/trace_json.h"

namespace pyinfer {
namespace {

std::string Json(const TraceRecord& record) {
  std::string text;
  AppendTraceJson(text, record);
  return text;
}

std::string Names(const TraceRecord& record) {
  std::string names;
  for (const TraceEvent& event : TraceEvents(record)) names += std::string(event.name) + " ";
  return names;
}

template <typename T>
std::string DataOf(DType dtype, const std::vector<T>& values) {
  TraceRecord record;
  record.levels = kTraceTensors;
  record.timeline.queued = 1;
  const auto count = static_cast<int64_t>(values.size());
  record.Add(false, {"T", dtype, {count}, Slice::Copy(values.data(), values.size() * sizeof(T))},
             TraceRecord::Data::kShare);
  const std::string text = Json(record);
  const size_t begin = text.find("\"data\":\"") + 8;
  return text.substr(begin, text.find("\",\"shape\"") - begin);
}

std::string BytesOf(const std::vector<std::string>& elements) {
  std::string wire;
  for (const std::string& element : elements) {
    const auto size = static_cast<uint32_t>(element.size());
    wire.append(reinterpret_cast<const char*>(&size), 4);
    wire += element;
  }
  return DataOf(DType::kBytes, std::vector<char>(wire.begin(), wire.end()));
}

TraceRecord Whole(Transport transport) {
  TraceRecord record;
  record.id = 7;
  record.levels = kTraceTimestamps;
  record.model_name = "m";
  record.model_version = 2;
  record.transport = transport;
  record.timeline = {1, 2, 3, 4, 5, 6, 7, 8, 0, 9};
  record.sends = {{10, 11}};
  return record;
}

TEST(TraceJson, IsTritons) {
  TraceRecord record = Whole(Transport::kHttp);
  record.request_id = "r";
  record.levels |= kTraceTensors;
  const int32_t values[] = {1, -2};
  record.Add(false, {"IN", DType::kInt32, {1, 2}, Slice::Copy(values, 8)}, TraceRecord::Data::kShare);
  record.Add(true, {"OUT", DType::kInt32, {2}, Slice::Copy(values, 8)}, TraceRecord::Data::kShare);
  CHECK_EQ(
      Json(record),
      "{\"id\":7,\"timestamps\":[{\"name\":\"HTTP_RECV_START\",\"ns\":1}]},"
      "{\"id\":7,\"timestamps\":[{\"name\":\"HTTP_RECV_END\",\"ns\":2}]},"
      "{\"id\":7,\"model_name\":\"m\",\"model_version\":2,\"request_id\":\"r\"},"
      "{\"id\":7,\"timestamps\":[{\"name\":\"REQUEST_START\",\"ns\":3}]},"
      "{\"id\":7,\"timestamps\":[{\"name\":\"QUEUE_START\",\"ns\":4}]},"
      "{\"id\":7,\"activity\":\"TENSOR_QUEUE_INPUT\",\"tensor\":{\"name\":\"IN\",\"data\":\"1,-2\",\"shape\":\"1,2\","
      "\"dtype\":\"INT32\"}},"
      "{\"id\":7,\"timestamps\":[{\"name\":\"COMPUTE_START\",\"ns\":5}]},"
      "{\"id\":7,\"timestamps\":[{\"name\":\"COMPUTE_INPUT_END\",\"ns\":6}]},"
      "{\"id\":7,\"timestamps\":[{\"name\":\"COMPUTE_OUTPUT_START\",\"ns\":7}]},"
      "{\"id\":7,\"timestamps\":[{\"name\":\"COMPUTE_END\",\"ns\":8}]},"
      "{\"id\":7,\"activity\":\"TENSOR_BACKEND_OUTPUT\",\"tensor\":{\"name\":\"OUT\",\"data\":\"1,-2\",\"shape\":\"2\","
      "\"dtype\":\"INT32\"}},"
      "{\"id\":7,\"timestamps\":[{\"name\":\"INFER_RESPONSE_COMPLETE\",\"ns\":9}]},"
      "{\"id\":7,\"timestamps\":[{\"name\":\"REQUEST_END\",\"ns\":9}]},"
      "{\"id\":7,\"timestamps\":[{\"name\":\"HTTP_SEND_START\",\"ns\":10}]},"
      "{\"id\":7,\"timestamps\":[{\"name\":\"HTTP_SEND_END\",\"ns\":11}]}");
}

TEST(TraceJson, GrpcHasNamesOfItsOwn) {
  CHECK_EQ(Names(Whole(Transport::kGrpc)),
           "GRPC_WAITREAD_START GRPC_WAITREAD_END REQUEST_START QUEUE_START COMPUTE_START COMPUTE_INPUT_END "
           "COMPUTE_OUTPUT_START COMPUTE_END INFER_RESPONSE_COMPLETE REQUEST_END GRPC_SEND_START GRPC_SEND_END ");
}

TEST(TraceJson, StagesThatWereNotReachedAreLeftOut) {
  TraceRecord record = Whole(Transport::kNone);
  record.timeline = {0, 0, 3, 4, 0, 0, 0, 0, 0, 9};
  CHECK_EQ(Names(record), "REQUEST_START QUEUE_START INFER_RESPONSE_COMPLETE REQUEST_END ");
}

TEST(TraceJson, ResponsesBeforeTheLastAreInTheirPlace) {
  TraceRecord record = Whole(Transport::kGrpc);
  record.timeline = {1, 2, 3, 4, 5, 6, 20, 21, 8, 22};
  record.sends = {{9, 10}, {23, 24}};
  CHECK_EQ(Names(record),
           "GRPC_WAITREAD_START GRPC_WAITREAD_END REQUEST_START QUEUE_START COMPUTE_START COMPUTE_INPUT_END "
           "INFER_RESPONSE_COMPLETE GRPC_SEND_START GRPC_SEND_END COMPUTE_OUTPUT_START COMPUTE_END REQUEST_END "
           "GRPC_SEND_START GRPC_SEND_END ");
}

TEST(TraceJson, TensorsAloneComeWithTheirModel) {
  TraceRecord record = Whole(Transport::kHttp);
  record.levels = kTraceTensors;
  record.Add(true, {"O\"", DType::kUint8, {0}, Slice()}, TraceRecord::Data::kShare);
  CHECK_EQ(Json(record),
           "{\"id\":7,\"model_name\":\"m\",\"model_version\":2},{\"id\":7,\"activity\":\"TENSOR_BACKEND_OUTPUT\","
           "\"tensor\":{\"name\":\"O\\\"\",\"data\":\"\",\"shape\":\"0\",\"dtype\":\"UINT8\"}}");
}

TEST(TraceJson, IntegersOfAllTypes) {
  CHECK_EQ(DataOf<uint8_t>(DType::kBool, {0, 1, 7}), "0,1,1");
  CHECK_EQ(DataOf<uint8_t>(DType::kUint8, {0, 65, 255}), "0,65,255");
  CHECK_EQ(DataOf<uint16_t>(DType::kUint16, {0, 65535}), "0,65535");
  CHECK_EQ(DataOf<uint32_t>(DType::kUint32, {4294967295}), "4294967295");
  CHECK_EQ(DataOf<uint64_t>(DType::kUint64, {UINT64_MAX}), "18446744073709551615");
  CHECK_EQ(DataOf<int8_t>(DType::kInt8, {-128, 127}), "-128,127");
  CHECK_EQ(DataOf<int16_t>(DType::kInt16, {-32768}), "-32768");
  CHECK_EQ(DataOf<int32_t>(DType::kInt32, {INT32_MIN}), "-2147483648");
  CHECK_EQ(DataOf<int64_t>(DType::kInt64, {INT64_MIN, 0}), "-9223372036854775808,0");
}

TEST(TraceJson, FloatsReadBackAsTheSame) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK_EQ(DataOf<float>(DType::kFp32, {1.5F, 1e-9F, 1234567.125F, -0.0F, 0.1F}), "1.5,1e-09,1234567.1,-0,0.1");
  CHECK_EQ(DataOf<float>(DType::kFp32, {kInfinity, -kInfinity, NAN}), "inf,-inf,nan");
  CHECK_EQ(DataOf<double>(DType::kFp64, {0.1, 1e300}), "0.1,1e+300");
  // 1, -2, the largest, the least above zero, infinity, not a number
  CHECK_EQ(DataOf<uint16_t>(DType::kFp16, {0x3c00, 0xc000, 0x7bff, 0x0001, 0x7c00, 0x7e00}),
           "1,-2,65504,5.9604645e-08,inf,nan");
  CHECK_EQ(DataOf<uint16_t>(DType::kBf16, {0x3f80, 0xc000, 0x7f80}), "1,-2,inf");
}

TEST(TraceJson, BytesAreQuotedInTheText) {
  CHECK_EQ(BytesOf({"a", "bc"}), "\\\"a\\\",\\\"bc\\\"");
  CHECK_EQ(BytesOf({"q\"\\\n"}), "\\\"q\\\\\\\"\\\\\\\\\\\\n\\\"");
  CHECK_EQ(BytesOf({"\xc3\xa9"}), "\\\"\xc3\xa9\\\"");
  CHECK_EQ(BytesOf({"\xff"}), "\\\"\xc3\xbf\\\"");
  CHECK_EQ(BytesOf({""}), "\\\"\\\"");
  // A length that does not fit ends it.
  CHECK_EQ(DataOf<uint32_t>(DType::kBytes, {1000}), "");
}

}  // namespace
}  // namespace pyinfer
