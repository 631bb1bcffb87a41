// SPDX-License-Identifier: Apache-2.0
#include "protocol/v2_http_members.h"

#include <cstdint>
#include <type_traits>
#include <utility>
#include <variant>

#include "protocol/parameters.h"
#include "protocol/request_rules.h"
#include "wire/json_numbers.h"

namespace pyinfer::v2_http {
namespace {

constexpr size_t kMaxRank = 64;

}  // namespace

Status Missing(std::string_view member) {
  return Unparsable(member, "attempt to access non-existing object member '" + std::string(member) + "'");
}

Status Unparsable(std::string_view member, std::string_view reason) {
  return Status::InvalidArg("Unable to parse " + QuotedForError(member) + ": " + std::string(reason));
}

Status ReadString(const Member& value, std::string_view member, std::string& out) {
  if (!value) return Missing(member);
  std::string_view text;
  if (value->get_string().get(text) != simdjson::SUCCESS) {
    return Unparsable(member, "attempt to access JSON non-string as string");
  }
  out = text;
  return Status();
}

Status ReadUnsigned(const JsonValue& value, std::string_view member, uint64_t& out) {
  if (value.get_uint64().get(out) == simdjson::SUCCESS) return Status();
  return Unparsable(member, "attempt to access JSON non-unsigned-integer as unsigned-integer");
}

Status ReadBool(const JsonValue& value, std::string_view member, bool& out) {
  if (value.get_bool().get(out) == simdjson::SUCCESS) return Status();
  return Unparsable(member, "attempt to access JSON non-boolean as boolean");
}

StatusOr<JsonObject> ReadObject(const JsonValue& value, std::string_view member) {
  JsonObject object;
  if (value.get_object().get(object) != simdjson::SUCCESS) {
    return Unparsable(member, "attempt to access JSON non-object as object");
  }
  if (Status status = CheckJsonMembers(object, QuotedForError(member)); !status.ok()) return status;
  return object;
}

StatusOr<JsonArray> ReadArray(const JsonValue& value, std::string_view member) {
  JsonArray array;
  if (value.get_array().get(array) == simdjson::SUCCESS) return array;
  return Unparsable(member, "attempt to access JSON non-array as array");
}

Status ReadShape(const Member& value, Shape& shape) {
  if (!value) return Missing("shape");
  StatusOr<JsonArray> dims = ReadArray(*value, "shape");
  if (!dims.ok()) return dims.status();
  if (dims->size() > kMaxRank)
    return Unparsable("shape", "it has more than " + std::to_string(kMaxRank) + " dimensions");
  shape.reserve(dims->size());
  for (const JsonValue dim : dims.value()) {
    int64_t size = 0;
    if (dim.get_int64().get(size) != simdjson::SUCCESS || size < 0) {
      return Unparsable("shape", "attempt to access JSON non-unsigned-integer as unsigned-integer");
    }
    shape.push_back(size);
  }
  return Status();
}

StatusOr<ParameterValue> ReadParameterValue(std::string_view name, const JsonValue& value) {
  if (!IsSchedulingParameter(name)) return ReadCustomParameter(name, value);
  // Ids of sequences and the like are unsigned; custom parameters are not.
  if (value.type() == JsonType::UINT64) return ParameterValue(value.get_uint64().value_unsafe());
  if (value.type() == JsonType::INT64 && value.get_int64().value_unsafe() < 0) {
    return Unparsable(name, "attempt to access JSON non-unsigned-integer as unsigned-integer");
  }
  return ReadCustomParameter(name, value);
}

StatusOr<ParameterValue> ReadCustomParameter(std::string_view name, const JsonValue& value) {
  switch (value.type()) {
    case JsonType::STRING:
      return ParameterValue(std::string(value.get_string().value_unsafe()));
    case JsonType::INT64:
      return ParameterValue(value.get_int64().value_unsafe());
    case JsonType::BOOL:
      return ParameterValue(value.get_bool().value_unsafe());
    case JsonType::DOUBLE:
      return ParameterValue(value.get_double().value_unsafe());
    default:
      return Status::InvalidArg("parameter " + QuotedForError(name) +
                                " has invalid type. It should be either 'int', 'bool', or 'string'.");
  }
}

Status ReadId(const JsonValue& value, Request& request) {
  std::string id;
  if (Status status = ReadString(value, "id", id); !status.ok()) return status;
  if (Status status = CheckRequestId(id); !status.ok()) return status;
  request.id = std::move(id);
  return Status();
}

Status CheckInputSize(std::string_view what, size_t size, size_t max_input_size) {
  if (size <= max_input_size) return Status();
  return Status::InvalidArg("Request " + std::string(what) + " size of " + std::to_string(size) +
                            " bytes exceeds the maximum allowed value of " + std::to_string(max_input_size) +
                            " bytes. Use --http-max-input-size to increase the limit.");
}

void AppendParameterValue(std::string& json, const ParameterValue& value) {
  std::visit(
      [&json](const auto& typed) {
        using T = std::decay_t<decltype(typed)>;
        if constexpr (std::is_same_v<T, bool>) {
          json += typed ? "true" : "false";
        } else if constexpr (std::is_same_v<T, std::string>) {
          AppendJsonString(json, typed);
        } else {
          AppendJsonNumber(json, typed);
        }
      },
      value);
}

}  // namespace pyinfer::v2_http
