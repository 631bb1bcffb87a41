// SPDX-License-Identifier: Apache-2.0
#include "protocol/v2_grpc.h"

#include <optional>
#include <protozero/pbf_reader.hpp>

#include "protocol/classification.h"
#include "protocol/parameters.h"
#include "protocol/request_rules.h"
#include "protocol/shm_parameters.h"
#include "protocol/v2_grpc_contents.h"
#include "protocol/v2_grpc_fields.h"
#include "wire/utf8.h"

namespace pyinfer::v2_grpc {
namespace {

using protozero::pbf_reader;
using protozero::pbf_wire_type;
using protozero::tag_and_type;

// Thrown and caught in this file only: a string field that is not text.
struct NotText {};

std::string ReadText(pbf_reader& field) {
  const auto view = field.get_view();
  const std::string_view text(view.data(), view.size());
  if (!ValidUtf8(text)) throw NotText();
  return std::string(text);
}

struct MapEntry {
  std::string key;
  std::optional<ParameterValue> value;
};

void ReadParameterValue(pbf_reader message, MapEntry& entry) {
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(infer_parameter::kBool, pbf_wire_type::varint):
        entry.value = message.get_bool();
        break;
      case tag_and_type(infer_parameter::kInt64, pbf_wire_type::varint):
        entry.value = message.get_int64();
        break;
      case tag_and_type(infer_parameter::kString, pbf_wire_type::length_delimited):
        entry.value = ReadText(message);
        break;
      case tag_and_type(infer_parameter::kDouble, pbf_wire_type::fixed64):
        entry.value = message.get_double();
        break;
      case tag_and_type(infer_parameter::kUint64, pbf_wire_type::varint):
        entry.value = message.get_uint64();
        break;
      default:
        message.skip();
    }
  }
}

MapEntry ReadMapEntry(pbf_reader message) {
  MapEntry entry;
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(1, pbf_wire_type::length_delimited):
        entry.key = ReadText(message);
        break;
      case tag_and_type(2, pbf_wire_type::length_delimited):
        ReadParameterValue(message.get_message(), entry);
        break;
      default:
        message.skip();
    }
  }
  return entry;
}

Status ReadRequestParameter(pbf_reader message, Request& request) {
  MapEntry entry = ReadMapEntry(message);
  if (Status status = CheckParameterName(entry.key); !status.ok()) return status;
  if (!entry.value) {
    return Status::InvalidArg("invalid value for parameter '" + entry.key + "': none of its fields is set");
  }
  if (std::holds_alternative<uint64_t>(*entry.value) && entry.key != "priority") {
    return Status::InvalidArg("parameter '" + entry.key +
                              "' has invalid type. It should be either 'int64_param', 'bool_param', 'string_param' or "
                              "'double_param'.");
  }
  return AddParameter(std::move(entry.key), std::move(*entry.value), request);
}

void ReadShape(pbf_reader& field, Shape& shape) {
  constexpr size_t kUsual = 4;
  if (shape.empty()) shape.reserve(kUsual);
  if (field.wire_type() == pbf_wire_type::varint) {
    shape.push_back(field.get_int64());
    return;
  }
  for (int64_t dim : field.get_packed_int64()) shape.push_back(dim);
}

// One entry of `inputs`, before its data is known.
struct InputMessage {
  Tensor tensor;
  std::string datatype;
  std::optional<pbf_reader> contents;
  GrpcShmParameters shared_memory;
};

Status ReadInput(pbf_reader message, InputMessage& input) {
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(input_tensor::kName, pbf_wire_type::length_delimited):
        input.tensor.name = ReadText(message);
        break;
      case tag_and_type(input_tensor::kDatatype, pbf_wire_type::length_delimited):
        input.datatype = ReadText(message);
        break;
      case tag_and_type(input_tensor::kShape, pbf_wire_type::length_delimited):
      case tag_and_type(input_tensor::kShape, pbf_wire_type::varint):
        ReadShape(message, input.tensor.shape);
        break;
      case tag_and_type(input_tensor::kParameters, pbf_wire_type::length_delimited): {
        const MapEntry entry = ReadMapEntry(message.get_message());
        StatusOr<bool> shared = input.shared_memory.Add(entry.key, entry.value, input.tensor.name);
        if (!shared.ok()) return shared.status();
        break;
      }
      case tag_and_type(input_tensor::kContents, pbf_wire_type::length_delimited):
        input.contents = message.get_message();
        break;
      default:
        message.skip();
    }
  }
  input.tensor.dtype = ParseDType(input.datatype);
  return Status();
}

Status ReadOutputParameter(const MapEntry& entry, RequestedOutput& output) {
  if (entry.key != "classification") return Status();
  const int64_t* count = entry.value ? std::get_if<int64_t>(&*entry.value) : nullptr;
  if (count == nullptr) {
    return Status::InvalidArg("invalid value type for 'classification' parameter, expected int64_param");
  }
  if (*count <= 0) return Status::InvalidArg("invalid value for 'classification' parameter, expected >= 0");
  output.classification = static_cast<uint64_t>(*count);
  return Status();
}

Status ReadOutput(pbf_reader message, Request& request) {
  RequestedOutput output;
  GrpcShmParameters shared_memory;
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(1, pbf_wire_type::length_delimited):
        output.name = ReadText(message);
        break;
      case tag_and_type(2, pbf_wire_type::length_delimited): {
        const MapEntry entry = ReadMapEntry(message.get_message());
        StatusOr<bool> shared = shared_memory.Add(entry.key, entry.value, output.name);
        if (!shared.ok()) return shared.status();
        if (shared.value()) break;
        if (Status status = ReadOutputParameter(entry, output); !status.ok()) return status;
        break;
      }
      default:
        message.skip();
    }
  }
  if (Status status = shared_memory.Check(output.name); !status.ok()) return status;
  if (shared_memory.parameters.region) {
    if (Status status = shared_memory.parameters.SetDestination(output, request); !status.ok()) return status;
  }
  request.requested_outputs.push_back(std::move(output));
  return Status();
}

// What is said of the inputs, before each of them has its data.
struct RequestMessage {
  void Clear() {
    constexpr size_t kUsual = 64;
    inputs.clear();
    raw.clear();
    if (inputs.capacity() > kUsual || raw.capacity() > kUsual) *this = RequestMessage();
  }

  std::vector<InputMessage> inputs;
  std::vector<Slice> raw;
};

// The raw contents that are `size` bytes at `offset` of the message; `apart` of those that lie apart were found before.
Slice RawContents(const ReceivedMessage& message, size_t offset, size_t size, size_t& apart) {
  if (apart < message.apart.size() && message.apart[apart].offset == offset &&
      message.apart[apart].bytes.size() == size) {
    return message.apart[apart++].bytes;
  }
  return message.bytes.Sub(offset, size);
}

Status ReadFields(const ReceivedMessage& received, Request& request, RequestMessage& parts) {
  const Slice& message = received.bytes;
  namespace f = model_infer_request;
  constexpr auto kBytes = pbf_wire_type::length_delimited;
  pbf_reader reader(reinterpret_cast<const char*>(message.data()), message.size());
  std::string version;
  size_t apart = 0;
  Status status;
  while (status.ok() && reader.next()) {
    switch (reader.tag_and_type()) {
      case tag_and_type(f::kModelName, kBytes):
        request.model_name = ReadText(reader);
        break;
      case tag_and_type(f::kModelVersion, kBytes):
        version = ReadText(reader);
        break;
      case tag_and_type(f::kId, kBytes):
        request.id = ReadText(reader);
        break;
      case tag_and_type(f::kParameters, kBytes):
        status = ReadRequestParameter(reader.get_message(), request);
        break;
      case tag_and_type(f::kInputs, kBytes):
        parts.inputs.emplace_back();
        status = ReadInput(reader.get_message(), parts.inputs.back());
        break;
      case tag_and_type(f::kOutputs, kBytes):
        status = ReadOutput(reader.get_message(), request);
        break;
      case tag_and_type(f::kRaw, kBytes): {
        const auto view = reader.get_view();
        const auto offset = static_cast<size_t>(reinterpret_cast<const uint8_t*>(view.data()) - message.data());
        parts.raw.push_back(RawContents(received, view.empty() ? 0 : offset, view.size(), apart));
        break;
      }
      default:
        reader.skip();
    }
  }
  if (status.ok() && apart != received.apart.size()) {
    status = Status::Internal("a part of the request lies where no tensor is");
  }
  if (status.ok()) status = CheckRequestId(request.id);
  if (!status.ok()) return status;
  StatusOr<int64_t> number = ParseVersion(version);
  if (!number.ok()) return number.status();
  request.model_version = number.value();
  return Status();
}

// Gives each input its data, from the raw contents or from typed ones.
Status AttachData(RequestMessage& parts, Request& request) {
  const std::string& model = request.model_name;
  size_t next_raw = 0;  // inputs in shared memory have no entry among the raw contents
  for (InputMessage& input : parts.inputs) {
    const auto where = [&] { return "input tensor '" + input.tensor.name + "' for model '" + model + "'"; };
    if (input.tensor.dtype == DType::kInvalid) {
      return Status::InvalidArg("invalid datatype '" + input.datatype.substr(0, 64) + "' of " + where());
    }
    if (Status status = input.shared_memory.Check(input.tensor.name); !status.ok()) return status;
    if (input.shared_memory.parameters.region) {
      if (input.contents && input.contents->length() != 0) {
        return Status::InvalidArg("unexpected 'content' provided when using shared memory for " + where());
      }
      if (Status status = input.shared_memory.parameters.ReadInput(input.tensor, request); !status.ok()) return status;
    } else if (!parts.raw.empty()) {
      if (input.contents && input.contents->length() != 0) {
        return Status::InvalidArg("contents field must not be specified when using raw_input_contents for '" +
                                  input.tensor.name + "' for model '" + model + "'");
      }
      if (next_raw >= parts.raw.size()) {
        return Status::InvalidArg("unable to find data for " + where() + " in request.");
      }
      input.tensor.data = std::move(parts.raw[next_raw++]);
    } else {
      const bool empty = ElementCount(input.tensor.shape) == uint64_t{0};
      if (!input.contents && !empty) return Status::InvalidArg("unable to find data for " + where() + " in request.");
      const pbf_reader contents = input.contents.value_or(pbf_reader());
      StatusOr<Slice> data = ReadContents(contents, input.tensor.dtype, where());
      if (!data.ok()) return data.status();
      input.tensor.data = std::move(data).value();
    }
    request.inputs.push_back(std::move(input.tensor));
  }
  if (parts.raw.size() > next_raw) {
    return Status::InvalidArg("raw_input_contents has " + std::to_string(parts.raw.size()) + " entries for " +
                              std::to_string(next_raw) + " inputs of model '" + model + "'");
  }
  return Status();
}

}  // namespace

Status ReadRequest(const ReceivedMessage& message, Request& request) {
  static thread_local RequestMessage kept;  // empty, but for memory that is used again
  RequestMessage parts = std::move(kept);
  Status status;
  try {
    status = ReadFields(message, request, parts);
    if (status.ok()) status = AttachData(parts, request);
  } catch (const protozero::exception&) {
    status = Status::InvalidArg("failed to parse the request: it is not a valid ModelInferRequest message");
  } catch (const NotText&) {
    status = Status::InvalidArg("failed to parse the request: a string field of ModelInferRequest is not valid UTF-8");
  }
  parts.Clear();
  kept = std::move(parts);
  return status;
}

}  // namespace pyinfer::v2_grpc
