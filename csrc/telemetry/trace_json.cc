// SPDX-License-Identifier: Apache-2.0
#include "telemetry/trace_json.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <string_view>

#include "telemetry/trace_events.h"
#include "wire/json.h"
#include "wire/utf8.h"

namespace pyinfer {
namespace {

template <typename T>
T Read(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

float HalfToFloat(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  float value = 0;
  if (exponent == 31) {
    value = fraction == 0 ? INFINITY : NAN;
  } else if (exponent == 0) {
    value = std::ldexp(static_cast<float>(fraction), -24);
  } else {
    value = std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -value : value;
}

float Bf16ToFloat(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  return Read<float>(reinterpret_cast<const uint8_t*>(&wide));
}

template <typename T>
void AppendNumber(std::string& out, T value) {
  char text[32];
  out.append(text, std::to_chars(text, text + sizeof(text), value).ptr);
}

void AppendElement(std::string& out, DType dtype, const uint8_t* bytes) {
  switch (dtype) {
    case DType::kBool:
      return AppendNumber(out, *bytes == 0 ? 0 : 1);
    case DType::kUint8:
      return AppendNumber(out, unsigned{*bytes});
    case DType::kUint16:
      return AppendNumber(out, Read<uint16_t>(bytes));
    case DType::kUint32:
      return AppendNumber(out, Read<uint32_t>(bytes));
    case DType::kUint64:
      return AppendNumber(out, Read<uint64_t>(bytes));
    case DType::kInt8:
      return AppendNumber(out, int{Read<int8_t>(bytes)});
    case DType::kInt16:
      return AppendNumber(out, Read<int16_t>(bytes));
    case DType::kInt32:
      return AppendNumber(out, Read<int32_t>(bytes));
    case DType::kInt64:
      return AppendNumber(out, Read<int64_t>(bytes));
    case DType::kFp16:
      return AppendNumber(out, HalfToFloat(Read<uint16_t>(bytes)));
    case DType::kBf16:
      return AppendNumber(out, Bf16ToFloat(Read<uint16_t>(bytes)));
    case DType::kFp32:
      return AppendNumber(out, Read<float>(bytes));
    case DType::kFp64:
      return AppendNumber(out, Read<double>(bytes));
    default:
      return;
  }
}

// An element of BYTES as JSON text; one that is not UTF-8 with the code points of its bytes.
void AppendBytes(std::string& out, std::string_view element) {
  if (ValidUtf8(element)) return AppendJsonString(out, element);
  std::string text;
  for (const char c : element) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      text += c;
    } else {
      text += static_cast<char>(0xc0 | byte >> 6);
      text += static_cast<char>(0x80 | (byte & 0x3f));
    }
  }
  AppendJsonString(out, text);
}

std::string DataText(const Tensor& tensor) {
  std::string text;
  const auto comma = [&text] {
    if (!text.empty()) text += ',';
  };
  if (tensor.dtype != DType::kBytes) {
    const size_t width = DTypeSize(tensor.dtype);
    for (size_t at = 0; width != 0 && at + width <= tensor.data.size(); at += width) {
      comma();
      AppendElement(text, tensor.dtype, tensor.data.data() + at);
    }
    return text;
  }
  std::string_view rest = tensor.data.view();
  while (rest.size() >= sizeof(uint32_t)) {
    const auto length = Read<uint32_t>(reinterpret_cast<const uint8_t*>(rest.data()));
    rest.remove_prefix(sizeof(uint32_t));
    if (length > rest.size()) break;
    comma();
    AppendBytes(text, rest.substr(0, length));
    rest.remove_prefix(length);
  }
  return text;
}

// The entries of one trace.
class Entries {
 public:
  Entries(std::string& out, const TraceRecord& record) : out_(out), record_(record) {}

  void Model() {
    Begin();
    out_ += ",\"model_name\":";
    AppendJsonString(out_, record_.model_name);
    out_ += ",\"model_version\":";
    AppendNumber(out_, record_.model_version);
    if (!record_.request_id.empty()) {
      out_ += ",\"request_id\":";
      AppendJsonString(out_, record_.request_id);
    }
    if (record_.parent_id != 0) {
      out_ += ",\"parent_id\":";
      AppendNumber(out_, record_.parent_id);
    }
    out_ += '}';
  }

  void Time(const TraceEvent& event) {
    Begin();
    out_ += ",\"timestamps\":[{\"name\":\"";
    out_ += event.name;
    out_ += "\",\"ns\":";
    AppendNumber(out_, event.ns);
    out_ += "}]}";
  }

  void Tensors(bool outputs) {
    for (const TracedTensor& traced : record_.tensors) {
      if (traced.output != outputs) continue;
      Begin();
      out_ += outputs ? ",\"activity\":\"TENSOR_BACKEND_OUTPUT\"" : ",\"activity\":\"TENSOR_QUEUE_INPUT\"";
      out_ += ",\"tensor\":{\"name\":";
      AppendJsonString(out_, traced.tensor.name);
      out_ += ",\"data\":";
      AppendJsonString(out_, DataText(traced.tensor));
      const std::string shape = ShapeText(traced.tensor.shape);
      out_ += ",\"shape\":\"";
      out_.append(shape, 1, shape.size() - 2);
      out_ += "\",\"dtype\":\"";
      out_ += DTypeName(traced.tensor.dtype);
      out_ += "\"}}";
    }
  }

 private:
  void Begin() {
    if (any_) out_ += ',';
    any_ = true;
    out_ += "{\"id\":";
    AppendNumber(out_, record_.id);
  }

  std::string& out_;
  const TraceRecord& record_;
  bool any_ = false;
};

}  // namespace

void AppendTraceJson(std::string& out, const TraceRecord& record) {
  Entries entries(out, record);
  const bool times = (record.levels & kTraceTimestamps) != 0;
  if (!times) entries.Model();
  bool inputs = false;
  for (const TraceEvent& event : TraceEvents(record)) {
    if (times && event.name == kRequestStart) entries.Model();
    // They are those of the first response and of all that came after it.
    if (event.name == kResponseComplete) entries.Tensors(/*outputs=*/true);
    if (times) entries.Time(event);
    if (event.name == kQueueStart && !std::exchange(inputs, true)) entries.Tensors(/*outputs=*/false);
  }
}

}  // namespace pyinfer
