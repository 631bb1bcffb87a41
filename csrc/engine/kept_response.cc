// SPDX-License-Identifier: Apache-2.0
#include "engine/kept_response.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <type_traits>
#include <utility>

namespace pyinfer {
namespace {

constexpr std::string_view kMagic = "PYIR";
constexpr uint32_t kFormat = 1;
constexpr uint32_t kMostOutputs = 4096;
constexpr uint32_t kMostDims = 64;
constexpr uint32_t kMostNameBytes = 4096;

template <typename Number>
void Append(std::string& bytes, Number number) {
  static_assert(std::is_integral_v<Number>);
  bytes.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

// Reads from the front; once something is missing, `ok` is false, and all that is read is nothing.
class Reader {
 public:
  explicit Reader(const Slice& bytes) : bytes_(bytes) {}

  template <typename Number>
  Number Read() {
    Number number = 0;
    const Slice part = Part(sizeof(number));
    if (!part.empty()) std::memcpy(&number, part.data(), sizeof(number));
    return number;
  }
  Slice Part(uint64_t size) {
    ok_ = ok_ && size <= bytes_.size() - at_;
    if (!ok_ || size == 0) return Slice();
    const Slice part = bytes_.Sub(at_, static_cast<size_t>(size));
    at_ += part.size();
    return part;
  }
  void Require(bool condition) { ok_ = ok_ && condition; }

  bool ok() const { return ok_; }
  bool at_end() const { return at_ == bytes_.size(); }

 private:
  const Slice& bytes_;
  size_t at_ = 0;
  bool ok_ = true;
};

bool HasTheSizeOfItsShape(const Tensor& tensor) {
  if (tensor.dtype != DType::kBytes) return ByteSize(tensor.dtype, tensor.shape) == tensor.data.size();
  const std::optional<uint64_t> count = ElementCount(tensor.shape);
  return count && CheckBytes(tensor.data.view(), *count, "").ok();
}

Tensor ReadOutput(Reader& reader) {
  Tensor output;
  const auto name_size = reader.Read<uint32_t>();
  reader.Require(name_size <= kMostNameBytes);
  output.name = std::string(reader.Part(name_size).view());
  const auto dtype = reader.Read<uint8_t>();
  reader.Require(dtype > static_cast<uint8_t>(DType::kInvalid) && dtype <= static_cast<uint8_t>(DType::kBf16));
  output.dtype = static_cast<DType>(reader.ok() ? dtype : 0);
  const auto dims = reader.Read<uint32_t>();
  reader.Require(dims <= kMostDims);
  for (uint32_t i = 0; reader.ok() && i < dims; ++i) output.shape.push_back(reader.Read<int64_t>());
  output.data = reader.Part(reader.Read<uint64_t>());
  output.shared = true;
  reader.Require(reader.ok() && HasTheSizeOfItsShape(output));
  return output;
}

}  // namespace

std::optional<std::string> EncodeResponse(const Response& response) {
  if (!response.parameters.empty()) return std::nullopt;
  std::string bytes(kMagic);
  Append(bytes, kFormat);
  Append(bytes, static_cast<uint32_t>(response.outputs.size()));
  for (const Tensor& output : response.outputs) {
    if (output.placed || output.data.device()) return std::nullopt;
    Append(bytes, static_cast<uint32_t>(output.name.size()));
    bytes += output.name;
    Append(bytes, static_cast<uint8_t>(output.dtype));
    Append(bytes, static_cast<uint32_t>(output.shape.size()));
    for (const int64_t dim : output.shape) Append(bytes, dim);
    Append(bytes, static_cast<uint64_t>(output.data.size()));
    bytes += output.data.view();
  }
  return bytes;
}

std::optional<Response> DecodeResponse(const Slice& bytes) {
  Reader reader(bytes);
  reader.Require(reader.Part(kMagic.size()).view() == kMagic);
  reader.Require(reader.Read<uint32_t>() == kFormat);
  const auto outputs = reader.Read<uint32_t>();
  reader.Require(outputs <= kMostOutputs);
  Response response;
  for (uint32_t i = 0; reader.ok() && i < outputs; ++i) response.outputs.push_back(ReadOutput(reader));
  if (!reader.ok() || !reader.at_end()) return std::nullopt;
  return response;
}

bool AnswersRequest(const Request& request, const Response& response) {
  const ModelSpec& model = *request.model;
  const auto& wanted = request.requested_outputs;
  if (response.outputs.size() != (wanted.empty() ? model.outputs.size() : wanted.size())) return false;
  for (size_t i = 0; i < response.outputs.size(); ++i) {
    const Tensor& output = response.outputs[i];
    const std::string& name = wanted.empty() ? model.outputs[i].name : wanted[i].name;
    const TensorSpec* spec = model.FindOutput(name);
    if (spec == nullptr || output.name != name || output.dtype != spec->dtype) return false;
    const size_t at = model.has_batch_dimension() ? 1 : 0;
    if (output.shape.size() != spec->dims.size() + at) return false;
    if (at == 1 && output.shape.front() != request.batch_size) return false;
    const bool fits = std::equal(spec->dims.begin(), spec->dims.end(), output.shape.begin() + static_cast<int>(at),
                                 [](int64_t dim, int64_t is) { return dim == -1 || dim == is; });
    if (!fits) return false;
  }
  return true;
}

}  // namespace pyinfer
