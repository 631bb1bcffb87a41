// SPDX-License-Identifier: Apache-2.0
#include "protocol/v2_grpc_contents.h"

#include <cstring>
#include <limits>

namespace pyinfer::v2_grpc {
namespace {

using protozero::pbf_reader;
using protozero::pbf_wire_type;

// Field numbers of InferTensorContents.
enum Field : uint32_t {
  kNone = 0,
  kBool = 1,
  kInt = 2,
  kInt64 = 3,
  kUint = 4,
  kUint64 = 5,
  kFp32 = 6,
  kFp64 = 7,
  kBytes = 8
};

Field FieldOf(DType dtype) {
  switch (dtype) {
    case DType::kBool:
      return kBool;
    case DType::kInt8:
    case DType::kInt16:
    case DType::kInt32:
      return kInt;
    case DType::kInt64:
      return kInt64;
    case DType::kUint8:
    case DType::kUint16:
    case DType::kUint32:
      return kUint;
    case DType::kUint64:
      return kUint64;
    case DType::kFp32:
      return kFp32;
    case DType::kFp64:
      return kFp64;
    case DType::kBytes:
      return kBytes;
    default:
      return kNone;
  }
}

std::string_view TypeOfField(uint32_t field) {
  switch (field) {
    case kBool:
      return "BOOL";
    case kInt:
      return "INT32";
    case kInt64:
      return "INT64";
    case kUint:
      return "UINT32";
    case kUint64:
      return "UINT64";
    case kFp32:
      return "FP32";
    case kFp64:
      return "FP64";
    default:
      return "BYTES";
  }
}

// Appends `value` as an element of type T; false where it does not fit.
template <typename T, typename V>
bool AppendAs(V value, GrowingBuffer& out) {
  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    if (value < static_cast<V>(std::numeric_limits<T>::min()) ||
        value > static_cast<V>(std::numeric_limits<T>::max())) {
      return false;
    }
  }
  const T element = static_cast<T>(value);
  out.Append(&element, sizeof(element));
  return true;
}

bool AppendInt(DType dtype, int32_t value, GrowingBuffer& out) {
  if (dtype == DType::kInt8) return AppendAs<int8_t>(value, out);
  if (dtype == DType::kInt16) return AppendAs<int16_t>(value, out);
  return AppendAs<int32_t>(value, out);
}

bool AppendUint(DType dtype, uint32_t value, GrowingBuffer& out) {
  if (dtype == DType::kUint8) return AppendAs<uint8_t>(value, out);
  if (dtype == DType::kUint16) return AppendAs<uint16_t>(value, out);
  return AppendAs<uint32_t>(value, out);
}

// Of an element of its own.
pbf_wire_type WireTypeOf(uint32_t field) {
  switch (field) {
    case kFp32:
      return pbf_wire_type::fixed32;
    case kFp64:
      return pbf_wire_type::fixed64;
    case kBytes:
      return pbf_wire_type::length_delimited;
    default:
      return pbf_wire_type::varint;
  }
}

// One repeated field, in packed or single form. False where an element does not fit `dtype`. The reader does not check
// what it is told to read.
bool ReadField(pbf_reader& reader, DType dtype, GrowingBuffer& out) {
  const bool packed = reader.wire_type() == pbf_wire_type::length_delimited;
  if (!packed && reader.wire_type() != WireTypeOf(reader.tag())) throw protozero::unknown_pbf_wire_type_exception();
  bool fits = true;
  const auto each = [&](auto range, auto append) {
    for (auto value : range) fits = append(value) && fits;
  };
  const auto as_bool = [&](bool value) { return AppendAs<uint8_t>(static_cast<uint8_t>(value), out); };
  const auto as_int = [&](int32_t value) { return AppendInt(dtype, value, out); };
  const auto as_int64 = [&](int64_t value) { return AppendAs<int64_t>(value, out); };
  const auto as_uint = [&](uint32_t value) { return AppendUint(dtype, value, out); };
  const auto as_uint64 = [&](uint64_t value) { return AppendAs<uint64_t>(value, out); };
  const auto as_float = [&](float value) { return AppendAs<float>(value, out); };
  const auto as_double = [&](double value) { return AppendAs<double>(value, out); };
  switch (reader.tag()) {
    case kBool:
      packed ? each(reader.get_packed_bool(), as_bool) : void(fits = as_bool(reader.get_bool()));
      break;
    case kInt:
      packed ? each(reader.get_packed_int32(), as_int) : void(fits = as_int(reader.get_int32()));
      break;
    case kInt64:
      packed ? each(reader.get_packed_int64(), as_int64) : void(fits = as_int64(reader.get_int64()));
      break;
    case kUint:
      packed ? each(reader.get_packed_uint32(), as_uint) : void(fits = as_uint(reader.get_uint32()));
      break;
    case kUint64:
      packed ? each(reader.get_packed_uint64(), as_uint64) : void(fits = as_uint64(reader.get_uint64()));
      break;
    case kFp32:
      packed ? each(reader.get_packed_float(), as_float) : void(fits = as_float(reader.get_float()));
      break;
    case kFp64:
      packed ? each(reader.get_packed_double(), as_double) : void(fits = as_double(reader.get_double()));
      break;
    default: {
      const auto view = reader.get_view();
      const auto length = static_cast<uint32_t>(view.size());
      out.Append(&length, sizeof(length));
      out.Append(view.data(), view.size());
    }
  }
  return fits;
}

}  // namespace

StatusOr<Slice> ReadContents(pbf_reader contents, DType dtype, const std::string& where) {
  const Field expected = FieldOf(dtype);
  GrowingBuffer data;
  while (contents.next()) {
    const uint32_t field = contents.tag();
    if (field < kBool || field > kBytes) {
      contents.skip();
      continue;
    }
    if (field != expected) {
      // A field of the right type is there as well: the data was given twice.
      if (data.size() != 0) {
        return Status::InvalidArg("unexpected explicit tensor data for " + where +
                                  ", binary data was already supplied.");
      }
      return Status::InvalidArg("unexpected explicit tensor data for " + where + " of type '" +
                                std::string(TypeOfField(field)) + "', expected datatype '" +
                                std::string(DTypeName(dtype)) + "'");
    }
    if (!ReadField(contents, dtype, data)) {
      return Status::InvalidArg("an element of " + where + " does not fit datatype '" + std::string(DTypeName(dtype)) +
                                "'");
    }
  }
  return data.Take();
}

}  // namespace pyinfer::v2_grpc
