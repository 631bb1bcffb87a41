// SPDX-License-Identifier: Apache-2.0
// v2_http_members.h - members of the JSON of requests and answers, by type; errors name the member.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "infer/parameters.h"
#include "infer/request.h"
#include "infer/tensor.h"
#include "wire/json.h"

namespace pyinfer::v2_http {

// A member that may be absent.
using Member = std::optional<JsonValue>;

Status Unparsable(std::string_view member, std::string_view reason);
Status Missing(std::string_view member);
// Requires the member to be there.
Status ReadString(const Member& value, std::string_view member, std::string& out);
Status ReadUnsigned(const JsonValue& value, std::string_view member, uint64_t& out);
Status ReadBool(const JsonValue& value, std::string_view member, bool& out);
// The object in `value`, its members checked for duplicates.
StatusOr<JsonObject> ReadObject(const JsonValue& value, std::string_view member);
StatusOr<JsonArray> ReadArray(const JsonValue& value, std::string_view member);
Status ReadShape(const Member& value, Shape& shape);
// The value of a request parameter: of one that may be reserved, and of one that is custom whatever its name.
StatusOr<ParameterValue> ReadParameterValue(std::string_view name, const JsonValue& value);
StatusOr<ParameterValue> ReadCustomParameter(std::string_view name, const JsonValue& value);
// The id of a request.
Status ReadId(const JsonValue& value, Request& request);
// InvalidArg where a request's part, `what`, of this size is larger than --http-max-input-size.
Status CheckInputSize(std::string_view what, size_t size, size_t max_input_size);

void AppendParameterValue(std::string& json, const ParameterValue& value);

}  // namespace pyinfer::v2_http
