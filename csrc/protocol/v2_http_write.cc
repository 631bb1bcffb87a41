// SPDX-License-Identifier: Apache-2.0
// v2_http_write.cc - Response -> HTTP answers.
#include <utility>

#include "protocol/classification.h"
#include "protocol/error_map.h"
#include "protocol/request_rules.h"
#include "protocol/v2_http.h"
#include "protocol/v2_http_data.h"
#include "protocol/v2_http_members.h"
#include "wire/http_head.h"
#include "wire/json.h"
#include "wire/json_numbers.h"

namespace pyinfer::v2_http {
namespace {

constexpr std::string_view kJsonType = "application/json";
constexpr std::string_view kBinaryType = "application/octet-stream";
// Texts can repeat names that clients made up.
constexpr size_t kMaxErrorText = 8192;

bool IsBinary(const Request& request, const OutputFormat& format, std::string_view name) {
  const auto& outputs = request.requested_outputs;
  for (size_t i = 0; i < outputs.size() && i < format.binary.size(); ++i) {
    if (outputs[i].name == name) return format.binary[i];
  }
  return format.binary_by_default;
}

void AppendParameters(std::string& json, const Parameters& parameters) {
  json += '{';
  bool first = true;
  for (const auto& [name, value] : parameters) {
    if (!std::exchange(first, false)) json += ',';
    AppendJsonString(json, name);
    json += ':';
    AppendParameterValue(json, value);
  }
  json += '}';
}

void AppendShape(std::string& json, const Shape& shape) {
  json += '[';
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i != 0) json += ',';
    AppendJsonNumber(json, shape[i]);
  }
  json += ']';
}

// One member of "outputs".
Status AppendTensor(std::string& json, const Tensor& output, bool binary) {
  json += "{\"name\":";
  AppendJsonString(json, output.name);
  json += ",\"datatype\":\"";
  json += DTypeName(output.dtype);
  json += "\",\"shape\":";
  AppendShape(json, output.shape);
  Status status;
  if (output.placed) {
    // its bytes are where the client wanted them
  } else if (binary) {
    json += ",\"parameters\":{\"binary_data_size\":";
    AppendJsonNumber(json, static_cast<uint64_t>(output.data.size()));
    json += '}';
  } else {
    json += ",\"data\":";
    status = AppendJsonData(json, output);
  }
  json += '}';
  return status;
}

// The JSON part of an answer; `blobs` receives the tensors that follow it.
Status WriteJson(const Request& request, const Response& response, const std::vector<Tensor>& outputs,
                 const OutputFormat& format, std::string& json, std::vector<Slice>& blobs) {
  json += '{';
  if (!request.id.empty()) {
    json += "\"id\":";
    AppendJsonString(json, request.id);
    json += ',';
  }
  json += "\"model_name\":";
  AppendJsonString(json, request.model->name);
  json += ",\"model_version\":";
  AppendJsonString(json, request.model->version_text);
  if (!response.parameters.empty()) {
    json += ",\"parameters\":";
    AppendParameters(json, response.parameters);
  }
  json += ",\"outputs\":[";
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Tensor& tensor = outputs[i];
    const bool binary = IsBinary(request, format, tensor.name);
    if (i != 0) json += ',';
    if (Status status = AppendTensor(json, tensor, binary); !status.ok()) return status;
    if (binary && !tensor.data.empty()) blobs.push_back(tensor.data);
  }
  json += "]}";
  return Status();
}

// The body in the coding that was asked for; false where it is to be sent plain.
bool WriteCompressed(const std::string& json, const std::vector<Slice>& blobs, const AnswerFormat& format,
                     std::vector<HttpHeader>& headers, Output& output) {
  if (format.compression != Compression::kGzip && format.compression != Compression::kDeflate) return false;
  std::vector<std::string_view> pieces = {json};
  for (const Slice& blob : blobs) pieces.push_back(blob.view());
  StatusOr<Slice> packed = Compress(format.compression, pieces);
  if (!packed.ok()) return false;
  headers.push_back({"Content-Encoding", CompressionName(format.compression)});
  std::string head;
  AppendHttpHead(head, 200, headers, packed->size(), format.keep_alive);
  output.Append(head);
  output.Append(packed.value());
  return true;
}

void WritePlain(std::string json, const std::vector<Slice>& blobs, bool keep_alive,
                const std::vector<HttpHeader>& headers, Output& output) {
  size_t size = json.size();
  for (const Slice& blob : blobs) size += blob.size();
  std::string head;
  head.reserve(192);
  AppendHttpHead(head, 200, headers, size, keep_alive);
  output.Append(head);
  if (json.size() < Output::kShareFrom) {
    output.Append(json);
  } else {
    output.Append(Slice(Buffer::FromString(std::move(json))));
  }
  for (const Slice& blob : blobs) output.Append(blob);
}

Output WriteErrorAnswer(int status, std::string_view text, std::vector<HttpHeader> headers, bool keep_alive) {
  const std::string json = ErrorObject(text);
  headers.push_back({"Content-Type", kJsonType});
  std::string head;
  AppendHttpHead(head, status, headers, json.size(), keep_alive);
  Output output;
  output.Append(head);
  output.Append(json);
  return output;
}

}  // namespace

Output WriteResponse(const Request& request, const Response& response, const AnswerFormat& format) {
  if (!response.status.ok()) return WriteError(response.status, format.keep_alive);
  std::string json;
  json.reserve(256);
  std::vector<Slice> blobs;
  Status status;
  if (WantsClasses(request)) {
    StatusOr<std::vector<Tensor>> classified = ClassifyOutputs(request, response.outputs);
    status = classified.ok() ? WriteJson(request, response, classified.value(), format.outputs, json, blobs)
                             : classified.status();
  } else {
    status = WriteJson(request, response, response.outputs, format.outputs, json, blobs);
  }
  if (!status.ok()) return WriteError(status, format.keep_alive);
  std::vector<HttpHeader> headers;
  headers.reserve(3);
  const std::string json_size = std::to_string(json.size());
  if (blobs.empty()) {
    headers.push_back({"Content-Type", kJsonType});
  } else {
    headers.push_back({"Content-Type", kBinaryType});
    headers.push_back({"Inference-Header-Content-Length", json_size});
  }
  Output output;
  if (!WriteCompressed(json, blobs, format, headers, output)) {
    WritePlain(std::move(json), blobs, format.keep_alive, headers, output);
  }
  return output;
}

std::string ErrorObject(std::string_view text) {
  if (text.size() > kMaxErrorText) {
    size_t end = kMaxErrorText;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    text = text.substr(0, end);
  }
  std::string json = "{\"error\":";
  AppendJsonString(json, text);
  return json + '}';
}

Output WriteError(const Status& status, bool keep_alive) {
  return WriteErrorAnswer(ErrorRowOf(status.code()).http_status, status.message(), {}, keep_alive);
}

Output WriteUnknownCompression(bool keep_alive) {
  return WriteErrorAnswer(415, "Unsupported compression type", {{"Accept-Encoding", "gzip, deflate"}}, keep_alive);
}

}  // namespace pyinfer::v2_http
