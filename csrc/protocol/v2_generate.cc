// SPDX-License-Identifier: Apache-2.0
#include "protocol/v2_generate.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/size.h"
#include "protocol/request_rules.h"
#include "protocol/v2_http_data.h"
#include "protocol/v2_http_members.h"
#include "wire/json.h"

namespace pyinfer::v2_generate {
namespace {

constexpr std::string_view kNested = "parameters";

StatusOr<Shape> FitShape(const TensorSpec& spec, bool batched, uint64_t elements) {
  Shape shape = spec.dims;
  if (batched) shape.insert(shape.begin(), -1);
  Shape fixed;
  std::copy_if(shape.begin(), shape.end(), std::back_inserter(fixed), [](int64_t dim) { return dim != -1; });
  const uint64_t unit = ElementCount(fixed).value_or(0);
  uint64_t left = unit == 0 ? 0 : elements / unit;
  const bool fits = unit != 0 && elements % unit == 0;
  for (auto dim = shape.rbegin(); dim != shape.rend(); ++dim) {
    if (*dim == -1) *dim = static_cast<int64_t>(std::exchange(left, 1));
  }
  if (fits && left == 1) return shape;
  return Status::InvalidArg("The schema can not convert input " + QuotedForError(spec.name) +
                            " to tensor with proper shape");
}

Status ReadTensor(const JsonValue& value, const TensorSpec& spec, size_t max_size, Request& request) {
  const auto same_name = [&spec](const Tensor& input) { return input.name == spec.name; };
  if (std::any_of(request.inputs.begin(), request.inputs.end(), same_name)) {
    return Status::InvalidArg("[request id: " + (request.id.empty() ? "<id_unknown>" : request.id) + "] input " +
                              QuotedForError(spec.name) + " already exists in request");
  }
  StatusOr<Shape> shape = FitShape(spec, request.model->has_batch_dimension(), v2_http::CountJsonElements(value));
  if (!shape.ok()) return shape.status();
  Tensor input{spec.name, spec.dtype, std::move(shape).value(), Slice()};
  StatusOr<Slice> data = value.is_array() ? v2_http::ReadJsonData(value, input, max_size)
                                          : v2_http::ReadJsonScalar(value, input, max_size);
  if (!data.ok()) return data.status();
  input.data = std::move(data).value();
  request.inputs.push_back(std::move(input));
  return Status();
}

Status ReadMember(std::string_view name, const JsonValue& value, size_t max_size, Request& request) {
  if (const TensorSpec* spec = request.model->FindInput(name)) return ReadTensor(value, *spec, max_size, request);
  StatusOr<ParameterValue> parameter = v2_http::ReadCustomParameter(name, value);
  if (!parameter.ok()) return parameter.status();
  request.parameters.emplace_back(std::string(name), std::move(parameter).value());
  return Status();
}

Status ReadNested(const JsonValue& value, size_t max_size, Request& request) {
  const std::string keyword = QuotedForError(kNested);
  if (request.model->FindInput(kNested) != nullptr) {
    return Status::InvalidArg("Keyword " + keyword + " for nested schema also given as input tensor name");
  }
  JsonObject members;
  if (value.get_object().get(members) != simdjson::SUCCESS) {
    return Status::InvalidArg("Expected JSON object for keyword: " + keyword +
                              ": attempt to access JSON non-object as object");
  }
  if (Status status = CheckJsonMembers(members, keyword); !status.ok()) return status;
  for (const auto field : members) {
    if (Status status = ReadMember(field.key, field.value, max_size, request); !status.ok()) {
      return {status.code(), "Converting keyword: " + keyword + ": " + status.message()};
    }
  }
  return Status();
}

// Appends the elements of `output`: one as it is, any other number as an array.
Status AppendTensor(std::string& json, const Tensor& output) {
  const size_t start = json.size();
  if (Status status = v2_http::AppendJsonData(json, output); !status.ok()) return status;
  if (ElementCount(output.shape) != uint64_t{1}) return Status();
  json.erase(start, 1);
  json.pop_back();
  return Status();
}

}  // namespace

Status ReadRequest(const Slice& body, size_t max_input_size, Request& request) {
  if (Status status = v2_http::CheckInputSize("JSON", body.size(), max_input_size); !status.ok()) return status;
  JsonDocument document;
  if (Status status = document.Parse(body.view()); !status.ok()) return status;
  JsonObject root;
  if (document.root().get_object().get(root) != simdjson::SUCCESS) {
    return Status::InvalidArg("attempt to get members for non-object");
  }
  if (Status status = CheckJsonMembers(root, "the request"); !status.ok()) return status;
  JsonValue id;
  if (root.at_key("id").get(id) == simdjson::SUCCESS) {
    if (Status status = v2_http::ReadId(id, request); !status.ok()) return status;
  }
  for (const auto field : root) {
    const Status status = field.key == kNested ? ReadNested(field.value, max_input_size, request)
                                               : ReadMember(field.key, field.value, max_input_size, request);
    if (!status.ok()) return status;
  }
  return Status();
}

StatusOr<std::string> WriteResponse(const Request& request, const Response& response) {
  if (!response.status.ok()) return response.status;
  const auto text = [](std::string_view value) {
    std::string json;
    AppendJsonString(json, value);
    return json;
  };
  // Where a name comes twice, the first one counts.
  std::map<std::string_view, std::string> members;
  if (!request.id.empty()) members.emplace("id", text(request.id));
  members.emplace("model_name", text(request.model->name));
  members.emplace("model_version", text(request.model->version_text));
  for (const auto& [name, value] : response.parameters) {
    std::string json;
    v2_http::AppendParameterValue(json, value);
    members.emplace(name, std::move(json));
  }
  for (const Tensor& output : response.outputs) {
    std::string json;
    if (Status status = AppendTensor(json, output); !status.ok()) return status;
    members.emplace(output.name, std::move(json));
  }
  std::string object = "{";
  for (const auto& [name, value] : members) {
    if (object.size() > 1) object += ',';
    AppendJsonString(object, name);
    object += ':';
    object += value;
  }
  return object + '}';
}

}  // namespace pyinfer::v2_generate
