// SPDX-License-Identifier: Apache-2.0
// v2_http_read.cc - bodies of infer requests -> Request.
#include <charconv>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "infer/validate.h"
#include "protocol/parameters.h"
#include "protocol/request_rules.h"
#include "protocol/shm_parameters.h"
#include "protocol/v2_http.h"
#include "protocol/v2_http_data.h"
#include "protocol/v2_http_members.h"
#include "wire/json.h"

namespace pyinfer::v2_http {
namespace {

constexpr size_t kShownHeader = 64;
// A raw request has no id, and errors about it say so as validation does.
const std::string kNoRequestId = "[request id: <id_unknown>] ";

Status ReadRequestParameters(const JsonValue& value, Request& request, OutputFormat& outputs) {
  StatusOr<JsonObject> members = ReadObject(value, "parameters");
  if (!members.ok()) return members.status();
  for (const auto field : members.value()) {
    Status status;
    if (field.key == "binary_data_output") {
      status = ReadBool(field.value, field.key, outputs.binary_by_default);
    } else if (status = CheckParameterName(field.key); status.ok()) {
      StatusOr<ParameterValue> parameter = ReadParameterValue(field.key, field.value);
      if (!parameter.ok()) return parameter.status();
      status = AddParameter(std::string(field.key), std::move(parameter).value(), request);
    }
    if (!status.ok()) return status;
  }
  return Status();
}

// True where `field` is one of the parameters that name shared memory.
template <typename Field>
StatusOr<bool> ReadShmParameter(const Field& field, ShmParameters& parameters) {
  Status status;
  if (field.key == kShmRegion) {
    status = ReadString(field.value, field.key, parameters.region.emplace());
  } else if (field.key == kShmOffset) {
    status = ReadUnsigned(field.value, field.key, parameters.offset);
  } else if (field.key == kShmByteSize) {
    status = ReadUnsigned(field.value, field.key, parameters.byte_size);
  } else {
    return false;
  }
  if (!status.ok()) return status;
  return true;
}

struct InputParameters {
  std::optional<uint64_t> binary_size;
  ShmParameters shared_memory;
};

Status ReadInputParameters(const Member& value, InputParameters& parameters) {
  if (!value) return Status();
  StatusOr<JsonObject> members = ReadObject(*value, "parameters");
  if (!members.ok()) return members.status();
  for (const auto field : members.value()) {
    StatusOr<bool> shared = ReadShmParameter(field, parameters.shared_memory);
    if (!shared.ok()) return shared.status();
    if (shared.value()) continue;
    if (field.key == "binary_data_size") {
      uint64_t size = 0;
      if (Status status = ReadUnsigned(field.value, field.key, size); !status.ok()) return status;
      parameters.binary_size = size;
    }
  }
  return Status();
}

Status CheckOneSource(bool data, const InputParameters& parameters) {
  const int given =
      int{data} + int{parameters.binary_size.has_value()} + int{parameters.shared_memory.region.has_value()};
  if (given == 1) return Status();
  std::string text =
      "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
      "'shared_memory_region' in 'parameters'. But";
  if (given == 0) return Status::InvalidArg(text + " no field is set");
  text += " set";
  if (data) text += " 'data'";
  if (parameters.binary_size) text += " 'binary_data_size'";
  if (parameters.shared_memory.region) text += " 'shared_memory_region'";
  return Status::InvalidArg(text);
}

// The binary tensors behind the JSON, taken one after the other.
class BinaryPart {
 public:
  BinaryPart(const Slice& body, size_t start) : body_(body), at_(start) {}

  Status Take(const std::string& input, uint64_t size, const ModelSpec& model, Slice& data) {
    const size_t left = body_.size() - at_;
    if (size > left) {
      return Status::InvalidArg("unexpected size for input " + QuotedForError(input) + ", expecting " +
                                std::to_string(size - left) + " additional bytes for model '" + model.name + "'");
    }
    data = body_.Sub(at_, size);
    at_ += size;
    return Status();
  }
  bool empty() const { return at_ == body_.size(); }

 private:
  const Slice& body_;
  size_t at_;
};

Status ReadInput(const JsonValue& value, size_t max_size, BinaryPart& binary, Tensor& input, Request& request) {
  const ModelSpec& model = *request.model;
  StatusOr<JsonObject> members = ReadObject(value, "inputs");
  if (!members.ok()) return members.status();
  Member name, datatype, shape, data, parameters;
  for (const auto field : members.value()) {
    if (field.key == "name") name = field.value;
    if (field.key == "datatype") datatype = field.value;
    if (field.key == "shape") shape = field.value;
    if (field.key == "data") data = field.value;
    if (field.key == "parameters") parameters = field.value;
  }
  std::string dtype_name;
  if (Status status = ReadString(name, "name", input.name); !status.ok()) return status;
  if (Status status = ReadString(datatype, "datatype", dtype_name); !status.ok()) return status;
  input.dtype = ParseDType(dtype_name);
  if (input.dtype == DType::kInvalid) {
    return Status::InvalidArg("invalid datatype for input " + CutForError(input.name) + ": " +
                              QuotedForError(dtype_name));
  }
  if (Status status = ReadShape(shape, input.shape); !status.ok()) return status;
  InputParameters source;
  if (Status status = ReadInputParameters(parameters, source); !status.ok()) return status;
  if (Status status = CheckOneSource(data.has_value(), source); !status.ok()) return status;
  if (source.shared_memory.region) return source.shared_memory.ReadInput(input, request);
  if (source.binary_size) return binary.Take(input.name, *source.binary_size, model, input.data);
  StatusOr<Slice> bytes = ReadJsonData(*data, input, max_size);
  if (!bytes.ok()) return bytes.status();
  input.data = std::move(bytes).value();
  return Status();
}

Status ReadInputs(const Member& value, size_t max_size, BinaryPart& binary, Request& request) {
  if (!value) return Missing("inputs");
  const ModelSpec& model = *request.model;
  StatusOr<JsonArray> inputs = ReadArray(*value, "inputs");
  if (!inputs.ok()) return inputs.status();
  if (inputs->size() > model.inputs.size() + kExtraInputs) {
    return Status::InvalidArg("expected " + std::to_string(model.inputs.size()) + " inputs but got " +
                              std::to_string(inputs->size()) + " inputs for model '" + model.name + "'");
  }
  request.inputs.reserve(inputs->size());
  for (const JsonValue item : inputs.value()) {
    Tensor& input = request.inputs.emplace_back();
    if (Status status = ReadInput(item, max_size, binary, input, request); !status.ok()) return status;
  }
  return Status();
}

Status ReadOutput(const JsonValue& value, RequestedOutput& output, bool& binary, Request& request) {
  StatusOr<JsonObject> members = ReadObject(value, "outputs");
  if (!members.ok()) return members.status();
  Member name_value, parameters;
  for (const auto field : members.value()) {
    if (field.key == "name") name_value = field.value;
    if (field.key == "parameters") parameters = field.value;
  }
  if (Status status = ReadString(name_value, "name", output.name); !status.ok()) return status;
  if (!parameters) return Status();
  StatusOr<JsonObject> wishes = ReadObject(*parameters, "parameters");
  if (!wishes.ok()) return wishes.status();
  ShmParameters shared_memory;
  for (const auto field : wishes.value()) {
    StatusOr<bool> shared = ReadShmParameter(field, shared_memory);
    if (!shared.ok()) return shared.status();
    if (shared.value()) continue;
    if (field.key == "binary_data") {
      if (Status status = ReadBool(field.value, field.key, binary); !status.ok()) return status;
    } else if (field.key == "classification") {
      if (Status status = ReadUnsigned(field.value, field.key, output.classification); !status.ok()) return status;
    }
  }
  if (!shared_memory.region) return Status();
  if (binary) return Status::InvalidArg("Output can't set both 'shared_memory_region' and 'binary_data'");
  return shared_memory.SetDestination(output, request);
}

Status ReadOutputs(const JsonValue& value, Request& request, OutputFormat& outputs) {
  StatusOr<JsonArray> items = ReadArray(value, "outputs");
  if (!items.ok()) return items.status();
  for (const JsonValue item : items.value()) {
    // One more than the model has: validation will find an unknown or a repeated name among them.
    if (request.requested_outputs.size() > request.model->outputs.size()) break;
    bool binary = false;
    RequestedOutput& output = request.requested_outputs.emplace_back();
    if (Status status = ReadOutput(item, output, binary, request); !status.ok()) return status;
    outputs.binary.push_back(binary);
  }
  return Status();
}

Status ReadJsonBody(const Slice& body, size_t json_size, size_t max_input_size, Request& request,
                    OutputFormat& outputs) {
  JsonDocument document;
  if (Status status = document.Parse(body.view().substr(0, json_size)); !status.ok()) return status;
  JsonObject root;
  if (document.root().get_object().get(root) != simdjson::SUCCESS) {
    return Status::InvalidArg("failed to parse the request JSON buffer: The document is not an object.");
  }
  if (Status status = CheckJsonMembers(root, "the request"); !status.ok()) return status;
  Member id, parameters, inputs, requested;
  for (const auto field : root) {
    if (field.key == "id") id = field.value;
    if (field.key == "parameters") parameters = field.value;
    if (field.key == "inputs") inputs = field.value;
    if (field.key == "outputs") requested = field.value;
  }
  if (id) {
    if (Status status = ReadId(*id, request); !status.ok()) return status;
  }
  if (parameters) {
    if (Status status = ReadRequestParameters(*parameters, request, outputs); !status.ok()) return status;
  }
  BinaryPart binary(body, json_size);
  if (Status status = ReadInputs(inputs, max_input_size, binary, request); !status.ok()) return status;
  if (requested) {
    if (Status status = ReadOutputs(*requested, request, outputs); !status.ok()) return status;
  }
  if (binary.empty()) return Status();
  return Status::InvalidArg("unexpected additional input data for model '" + request.model->name + "'");
}

// The shape of a raw input of `size` bytes: its variable dimension, if it has one, is what the size leaves for it.
StatusOr<Shape> DeduceShape(const TensorSpec& spec, size_t size) {
  Shape shape = spec.dims;
  int64_t* variable = nullptr;
  Shape fixed;
  for (int64_t& dim : shape) {
    if (dim != -1) {
      fixed.push_back(dim);
    } else if (std::exchange(variable, &dim) != nullptr) {
      return Status::InvalidArg(kNoRequestId + "The shape of the raw input '" + spec.name +
                                "' can not be deduced because there are more than one variable-sized dimension");
    }
  }
  if (variable == nullptr) return shape;
  // Validation will find bytes that are left over.
  if (const uint64_t row = ByteSize(spec.dtype, fixed).value_or(0); row != 0) {
    *variable = static_cast<int64_t>(size / row);
  }
  return shape;
}

// The body is one tensor without JSON.
Status ReadRawBody(const Slice& body, Request& request, OutputFormat& outputs) {
  const ModelSpec& model = *request.model;
  if (model.inputs.size() != 1) {
    return Status::InvalidArg(kNoRequestId + "Raw request must only have 1 input (found 1) to be deduced but got " +
                              std::to_string(model.inputs.size()) + " inputs in '" + model.name +
                              "' model configuration");
  }
  const TensorSpec& spec = model.inputs[0];
  outputs.binary_by_default = true;
  Tensor& input = request.inputs.emplace_back();
  input.name = spec.name;
  input.dtype = spec.dtype;
  input.data = body;
  if (spec.dtype == DType::kBytes) {
    const bool one_element = spec.dims.size() == 1 && (spec.dims[0] == 1 || spec.dims[0] == -1);
    if (!one_element || body.size() > UINT32_MAX) {
      return Status::InvalidArg(kNoRequestId + "For BYTE datatype raw input '" + spec.name +
                                "', the model must have input shape [1]");
    }
    const auto length = static_cast<uint32_t>(body.size());
    BufferPtr element = Buffer::Allocate(sizeof(length) + length);
    std::memcpy(element->data(), &length, sizeof(length));
    std::memcpy(element->data() + sizeof(length), body.data(), length);
    input.shape = {1};
    input.data = Slice(std::move(element), 0, sizeof(length) + length);
  } else {
    StatusOr<Shape> shape = DeduceShape(spec, body.size());
    if (!shape.ok()) return shape.status();
    input.shape = std::move(shape).value();
  }
  if (model.has_batch_dimension()) input.shape.insert(input.shape.begin(), 1);
  return Status();
}

}  // namespace

StatusOr<size_t> ReadJsonSize(const std::optional<std::string>& header_length, size_t body_size) {
  if (!header_length) return body_size;
  int64_t size = 0;
  const char* const end = header_length->data() + header_length->size();
  const auto [stop, error] = std::from_chars(header_length->data(), end, size);
  const bool huge = error == std::errc::result_out_of_range;
  if (stop != end || (error != std::errc() && !huge)) {
    return Status::InvalidArg("Unable to parse Inference-Header-Content-Length, got: " +
                              header_length->substr(0, kShownHeader));
  }
  if (huge || size < 0 || static_cast<uint64_t>(size) > body_size) {
    return Status::InvalidArg("inference header size should be in range (0, " + std::to_string(body_size) +
                              "), got: " + header_length->substr(0, kShownHeader));
  }
  return static_cast<size_t>(size);
}

Status ReadRequest(const Slice& body, const std::optional<std::string>& header_length, size_t max_input_size,
                   Request& request, OutputFormat& outputs) {
  StatusOr<size_t> json_size = ReadJsonSize(header_length, body.size());
  if (!json_size.ok()) return json_size.status();
  const bool raw = header_length && json_size.value() == 0;
  const size_t limited = raw ? body.size() : json_size.value();
  if (Status status = CheckInputSize(raw ? "raw input" : "JSON", limited, max_input_size); !status.ok()) return status;
  if (raw) return ReadRawBody(body, request, outputs);
  return ReadJsonBody(body, json_size.value(), max_input_size, request, outputs);
}

}  // namespace pyinfer::v2_http
