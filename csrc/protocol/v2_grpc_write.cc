// SPDX-License-Identifier: Apache-2.0
// Writing responses; v2_grpc.cc reads requests.
#include <iterator>
#include <limits>
#include <protozero/pbf_writer.hpp>
#include <protozero/varint.hpp>
#include <string>
#include <utility>
#include <vector>

#include "protocol/classification.h"
#include "protocol/grpc_messages.h"
#include "protocol/v2_grpc.h"
#include "protocol/v2_grpc_fields.h"

namespace pyinfer::v2_grpc {
namespace {

using protozero::pbf_wire_type;

void WriteParameters(protozero::pbf_writer& writer, uint32_t tag, const Parameters& parameters) {
  for (const auto& [name, value] : parameters) {
    std::string bytes;
    protozero::pbf_writer parameter(bytes);
    if (const bool* flag = std::get_if<bool>(&value)) {
      parameter.add_bool(infer_parameter::kBool, *flag);
    } else if (const int64_t* integer = std::get_if<int64_t>(&value)) {
      parameter.add_int64(infer_parameter::kInt64, *integer);
    } else if (const uint64_t* natural = std::get_if<uint64_t>(&value)) {
      parameter.add_uint64(infer_parameter::kUint64, *natural);
    } else if (const double* real = std::get_if<double>(&value)) {
      parameter.add_double(infer_parameter::kDouble, *real);
    } else {
      parameter.add_string(infer_parameter::kString, std::get<std::string>(value));
    }
    protozero::pbf_writer entry(writer, tag);
    entry.add_string(1, name);
    entry.add_message(2, bytes);
  }
}

// What a response repeats of a request that it could not answer with outputs.
void WriteAsked(protozero::pbf_writer& writer, const Request& request) {
  namespace f = model_infer_response;
  writer.add_string(f::kModelName, request.model_name);
  if (request.model_version >= 0) writer.add_string(f::kModelVersion, std::to_string(request.model_version));
  if (!request.id.empty()) writer.add_string(f::kId, request.id);
}

// The parameter triton_final_response of a ModelInferResponse. Written ahead: every response of a stream has it.
void AppendFinal(std::string& message, bool final) {
  static constexpr std::string_view kEntry = "\x22\x1b\x0a\x15triton_final_response\x12\x02\x08";
  message += kEntry;
  message += final ? '\1' : '\0';
}

// A ModelStreamInferResponse that carries no tensors, behind gRPC's prefix.
Output WriteStreamMessage(const std::string& error, const std::string& inner) {
  namespace f = model_stream_infer_response;
  std::string message(kGrpcPrefixSize, '\0');
  protozero::pbf_writer writer(message);
  if (!error.empty()) writer.add_string(f::kErrorMessage, error);
  writer.add_message(f::kInferResponse, inner);
  WriteGrpcPrefix(message.data(), message.size() - kGrpcPrefixSize);
  return Output(std::move(message));
}

void WriteOutput(protozero::pbf_writer& writer, const Tensor& output) {
  protozero::pbf_writer message(writer, model_infer_response::kOutputs);
  const std::string_view datatype = DTypeName(output.dtype);
  message.add_string(output_tensor::kName, output.name);
  message.add_string(output_tensor::kDatatype, datatype.data(), datatype.size());
  message.add_packed_int64(output_tensor::kShape, output.shape.begin(), output.shape.end());
}

// A ModelInferResponse without its raw contents, behind `room` bytes.
std::string WriteHead(const Request& request, const Parameters& parameters, const std::vector<Tensor>& outputs,
                      size_t room) {
  namespace f = model_infer_response;
  std::string head;
  head.reserve(256);
  head.resize(room);
  protozero::pbf_writer writer(head);
  writer.add_string(f::kModelName, request.model->name);
  writer.add_string(f::kModelVersion, request.model->version_text);
  if (!request.id.empty()) writer.add_string(f::kId, request.id);
  WriteParameters(writer, f::kParameters, parameters);
  for (const Tensor& output : outputs) WriteOutput(writer, output);
  return head;
}

// Bytes of the whole message: `head`, and for each raw entry its tag, its length and its bytes.
StatusOr<uint64_t> CheckedSize(uint64_t head, const std::vector<Tensor>& outputs) {
  uint64_t size = head;
  for (const Tensor& output : outputs) {
    size += 1 + static_cast<uint64_t>(protozero::length_of_varint(output.data.size())) + output.data.size();
  }
  if (size <= static_cast<uint64_t>(std::numeric_limits<int32_t>::max())) return size;
  return Status::InvalidArg("Response has byte size " + std::to_string(size) +
                            " which exceeds gRPC's byte size limit " +
                            std::to_string(std::numeric_limits<int32_t>::max()) + ".");
}

Output WriteRaw(std::string head, const std::vector<Tensor>& outputs) {
  Output message(std::move(head));
  std::string entry;
  for (const Tensor& output : outputs) {
    entry.assign(
        1, static_cast<char>(model_infer_response::kRaw << 3 | static_cast<uint32_t>(pbf_wire_type::length_delimited)));
    protozero::write_varint(std::back_inserter(entry), output.data.size());
    message.Append(entry);
    message.Append(output.data);
  }
  return message;
}

StatusOr<Output> WriteAlone(const Request& request, const Parameters& parameters, const std::vector<Tensor>& outputs) {
  std::string head = WriteHead(request, parameters, outputs, kGrpcPrefixSize);
  StatusOr<uint64_t> size = CheckedSize(head.size() - kGrpcPrefixSize, outputs);
  if (!size.ok()) return size.status();
  WriteGrpcPrefix(head.data(), size.value());
  return WriteRaw(std::move(head), outputs);
}

StatusOr<Output> WriteInStream(const Request& request, const Parameters& parameters, const std::vector<Tensor>& outputs,
                               bool final) {
  // Before the inner message come gRPC's prefix, the tag and the inner length, which is known last. It takes as many
  // bytes as it needs, so the message may begin a little later than at 0.
  constexpr size_t kLongestLength = 5;
  constexpr size_t kRoom = kGrpcPrefixSize + 1 + kLongestLength;
  std::string head = WriteHead(request, parameters, outputs, kRoom);
  AppendFinal(head, final);
  StatusOr<uint64_t> whole = CheckedSize(head.size() - kGrpcPrefixSize, outputs);
  if (!whole.ok()) return whole.status();
  const uint64_t inner = whole.value() - 1 - kLongestLength;
  const auto length = static_cast<size_t>(protozero::length_of_varint(inner));
  head.erase(0, kLongestLength - length);
  WriteGrpcPrefix(head.data(), 1 + length + inner);
  head[kGrpcPrefixSize] = static_cast<char>(model_stream_infer_response::kInferResponse << 3 |
                                            static_cast<uint32_t>(pbf_wire_type::length_delimited));
  protozero::add_varint_to_buffer(head.data() + kGrpcPrefixSize + 1, inner);
  return WriteRaw(std::move(head), outputs);
}

}  // namespace

StatusOr<Output> WriteResponse(const Request& request, const Response& response) {
  if (!WantsClasses(request)) return WriteAlone(request, response.parameters, response.outputs);
  StatusOr<std::vector<Tensor>> classified = ClassifyOutputs(request, response.outputs);
  if (!classified.ok()) return classified.status();
  return WriteAlone(request, response.parameters, classified.value());
}

StatusOr<Output> WriteStreamResponse(const Request& request, const Response& response, bool final) {
  if (!WantsClasses(request)) return WriteInStream(request, response.parameters, response.outputs, final);
  StatusOr<std::vector<Tensor>> classified = ClassifyOutputs(request, response.outputs);
  if (!classified.ok()) return classified.status();
  return WriteInStream(request, response.parameters, classified.value(), final);
}

Output WriteStreamEnd(const Request& request) {
  std::string inner;
  protozero::pbf_writer writer(inner);
  WriteAsked(writer, request);
  AppendFinal(inner, true);
  return WriteStreamMessage("", inner);
}

Output WriteStreamError(const Request& request, const Status& status, bool final) {
  std::string inner;
  protozero::pbf_writer writer(inner);
  if (request.observer) {
    WriteAsked(writer, request);
    AppendFinal(inner, final);
  } else if (!request.id.empty()) {
    writer.add_string(model_infer_response::kId, request.id);
  }
  return WriteStreamMessage(status.message(), inner);
}

}  // namespace pyinfer::v2_grpc
