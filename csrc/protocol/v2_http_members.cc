// SPDX-License-Identifier: Apache-2.0
#include "protocol/v2_http_members.h"

#include <cstdint>

#include "protocol/parameters.h"
#include "protocol/request_rules.h"

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
  switch (value.type()) {
    case JsonType::STRING:
      return ParameterValue(std::string(value.get_string().value_unsafe()));
    case JsonType::INT64: {
      const int64_t number = value.get_int64().value_unsafe();
      if (number < 0 && IsSchedulingParameter(name)) {
        return Unparsable(name, "attempt to access JSON non-unsigned-integer as unsigned-integer");
      }
      return ParameterValue(number);
    }
    case JsonType::BOOL:
      return ParameterValue(value.get_bool().value_unsafe());
    case JsonType::DOUBLE:
      return ParameterValue(value.get_double().value_unsafe());
    case JsonType::UINT64:
      // Ids of sequences and the like are unsigned; custom parameters are not.
      if (IsSchedulingParameter(name)) return ParameterValue(value.get_uint64().value_unsafe());
      [[fallthrough]];
    default:
      return Status::InvalidArg("parameter " + QuotedForError(name) +
                                " has invalid type. It should be either 'int', 'bool', or 'string'.");
  }
}

}  // namespace pyinfer::v2_http
