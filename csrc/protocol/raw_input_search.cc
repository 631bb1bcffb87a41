// SPDX-License-Identifier: Apache-2.0
#include "protocol/raw_input_search.h"

#include <protozero/exception.hpp>
#include <protozero/types.hpp>
#include <protozero/varint.hpp>

#include "protocol/parameters.h"
#include "protocol/v2_grpc_fields.h"

namespace pyinfer {
namespace {

namespace f = v2_grpc::model_infer_request;
using protozero::pbf_wire_type;

constexpr uint32_t TagOf(uint32_t field) {
  return protozero::tag_and_type(static_cast<protozero::pbf_tag_type>(field), pbf_wire_type::length_delimited);
}

}  // namespace

bool RawInputSearch::ReadHead(std::string_view begun, Field& field) {
  if (over_ || at_ >= begun.size()) return false;
  const char* at = begun.data() + at_;
  const char* const end = begun.data() + begun.size();
  try {
    field.tag = static_cast<uint32_t>(protozero::decode_varint(&at, end));  // as who reads the whole takes it
    switch (static_cast<pbf_wire_type>(field.tag & 7)) {
      case pbf_wire_type::varint: {
        const char* const value = at;
        protozero::decode_varint(&at, end);
        field.size = static_cast<uint64_t>(at - value);
        at = value;
        break;
      }
      case pbf_wire_type::fixed64:
        field.size = 8;
        break;
      case pbf_wire_type::fixed32:
        field.size = 4;
        break;
      case pbf_wire_type::length_delimited:
        field.size = protozero::decode_varint(&at, end);
        break;
      default:
        over_ = true;
    }
  } catch (const protozero::end_of_buffer_exception&) {
    return false;
  } catch (const protozero::varint_too_long_exception&) {
    over_ = true;
  }
  field.offset = static_cast<size_t>(at - begun.data());
  field.value = begun.substr(field.offset, static_cast<size_t>(field.size));
  return !over_;
}

bool RawInputSearch::ReadName(const Field& field) {
  if (field.value.size() < field.size) return false;
  if (field.tag == TagOf(f::kModelName)) {
    model_ = field.value;
    return true;
  }
  const StatusOr<int64_t> version = ParseVersion(std::string(field.value));
  over_ = !version.ok();
  if (!over_) version_ = version.value();
  return !over_;
}

std::optional<RawInputSearch::Found> RawInputSearch::Next(const MessageBuffer& message, size_t least) {
  const std::string_view begun = message.begun();
  for (Field field; ReadHead(begun, field); field = Field()) {
    if (field.size > message.size() - field.offset) {
      over_ = true;
      break;
    }
    const auto size = static_cast<size_t>(field.size);
    const bool is_name = field.tag == TagOf(f::kModelName) || field.tag == TagOf(f::kModelVersion);
    if (is_name && !ReadName(field)) break;
    const bool is_large = field.tag == TagOf(f::kRaw) && size >= least && field.value.size() < size;
    if (is_large && size > message.bought()) break;
    at_ = field.offset + size;
    if (is_large) return Found{field.offset, size};
  }
  return std::nullopt;
}

}  // namespace pyinfer
