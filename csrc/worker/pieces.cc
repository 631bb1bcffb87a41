// SPDX-License-Identifier: Apache-2.0
#include "worker/pieces.h"

#include <memory>

#include "infer/trace.h"
#include "worker/lane.h"

namespace pyinfer {
namespace {

// In place of an offset among the data of this message: one in what the reader has sent, or among the placed inputs.
constexpr uint64_t kInSent = uint64_t{1} << 63;
constexpr uint64_t kPlaced = uint64_t{1} << 62;

}  // namespace

void MessageWriter::Text(std::string_view text) {
  Number(static_cast<uint64_t>(text.size()));
  description_.append(text);
}

void MessageWriter::Zeros(uint64_t size) {
  parts_.push_back({data_size_, nullptr, size});
  data_size_ += LaneAligned(size);
}

void MessageWriter::Data(std::string_view bytes) {
  for (const auto& [from, place] : borrowed_) {
    const uint64_t offset = reinterpret_cast<uintptr_t>(bytes.data()) - reinterpret_cast<uintptr_t>(from.data());
    if (bytes.size() < kLargeData || offset >= from.size() || bytes.size() > from.size() - offset) continue;
    Number((place.placed ? kPlaced : kInSent) | (place.offset + offset));
    Number(static_cast<uint64_t>(bytes.size()));
    return;
  }
  Number(data_size_);
  Number(static_cast<uint64_t>(bytes.size()));
  parts_.push_back({data_size_, bytes.data(), bytes.size()});
  data_size_ += LaneAligned(bytes.size());
}

uint64_t MessageWriter::data_offset() const { return LaneAligned(sizeof(uint64_t) + description_.size()); }

uint64_t MessageWriter::size() const { return data_offset() + data_size_; }

void MessageWriter::Write(uint8_t* to) const {
  const uint64_t size = description_.size();
  std::memcpy(to, &size, sizeof(size));
  std::memcpy(to + sizeof(size), description_.data(), size);
  uint8_t* const data = to + data_offset();
  for (const Part& part : parts_) {
    if (part.size == 0) continue;
    if (part.bytes == nullptr) {
      std::memset(data + part.offset, 0, part.size);
    } else {
      std::memcpy(data + part.offset, part.bytes, part.size);
    }
  }
}

void MessageReader::Fail() {
  failed_ = true;
  rest_ = {};
}

MessageReader::MessageReader(const Slice& given, MessageKind kind, bool foreign, Lender lender)
    : lender_(std::move(lender)) {
  const bool small = given.size() < kLargeData;
  const Slice message = foreign && small ? Slice::Copy(given.data(), given.size()) : given;
  uint64_t size = 0;
  if (message.size() >= sizeof(size)) std::memcpy(&size, message.data(), sizeof(size));
  if (message.size() < sizeof(size) || size > message.size() - sizeof(size)) {
    Fail();
    return;
  }
  description_ = message.Sub(sizeof(size), size);
  if (foreign && !small) description_ = Slice::Copy(description_.data(), description_.size());
  rest_ = description_.view();
  const uint64_t data = LaneAligned(sizeof(size) + size);
  if (data <= message.size()) data_ = message.Sub(data, message.size() - data);
  if (Number<uint8_t>() != static_cast<uint8_t>(kind)) Fail();
}

size_t MessageReader::Count(size_t least) {
  const auto count = Number<uint32_t>();
  if (count > rest_.size() / least) Fail();
  return failed_ ? 0 : count;
}

std::vector<uint64_t> MessageReader::Numbers() {
  std::vector<uint64_t> numbers(Count(sizeof(uint64_t)));
  for (uint64_t& number : numbers) number = Number<uint64_t>();
  return numbers;
}

Slice MessageReader::Data() {
  const auto place = Number<uint64_t>();
  const auto size = Number<uint64_t>();
  if ((place & (kInSent | kPlaced)) != 0) {
    const bool placed = (place & kPlaced) != 0;
    std::optional<Slice> lent;
    if (lender_ && !failed_) lent = lender_({placed, place & ~(kInSent | kPlaced)}, size);
    if (!lent) Fail();
    return lent.value_or(Slice());
  }
  if (place > data_.size() || size > data_.size() - place) Fail();
  return failed_ ? Slice() : data_.Sub(place, size);
}

std::string_view MessageReader::Bytes(uint64_t size) {
  if (size > rest_.size()) Fail();
  if (failed_) return {};
  const std::string_view bytes = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return bytes;
}

Status SenselessMessage() { return Status::InvalidArg("a message between server and worker process makes no sense"); }

StatusOr<MessageKind> KindOf(const Slice& message) {
  constexpr size_t kAt = sizeof(uint64_t);
  if (message.size() <= kAt || message.data()[kAt] > static_cast<uint8_t>(MessageKind::kResponse)) {
    return SenselessMessage();
  }
  return static_cast<MessageKind>(message.data()[kAt]);
}

namespace {

void WriteTensor(MessageWriter& writer, const Tensor& tensor) {
  writer.Text(tensor.name);
  writer.Number(static_cast<uint8_t>(tensor.dtype));
  writer.Number(static_cast<uint32_t>(tensor.shape.size()));
  for (const int64_t dim : tensor.shape) writer.Number(dim);
  writer.Data(tensor.data.view());
}

void WriteParameters(MessageWriter& writer, const Parameters& parameters) {
  writer.Number(static_cast<uint32_t>(parameters.size()));
  for (const auto& [name, value] : parameters) {
    writer.Text(name);
    writer.Number(static_cast<uint8_t>(value.index()));
    std::visit(
        [&writer](const auto& held) {
          if constexpr (std::is_same_v<std::decay_t<decltype(held)>, std::string>) {
            writer.Text(held);
          } else {
            writer.Number(held);
          }
        },
        value);
  }
}

Tensor ReadTensor(MessageReader& reader) {
  Tensor tensor;
  tensor.name = reader.Text();
  const auto dtype = reader.Number<uint8_t>();
  if (dtype == 0 || dtype > static_cast<uint8_t>(DType::kBf16)) reader.Fail();
  tensor.dtype = static_cast<DType>(dtype);
  tensor.shape.resize(reader.Count(sizeof(int64_t)));
  for (int64_t& dim : tensor.shape) dim = reader.Number<int64_t>();
  tensor.data = reader.Data();
  return tensor;
}

// Whether the data are what data type and shape say.
bool Fits(const Tensor& tensor) {
  const auto count = ElementCount(tensor.shape);
  if (!count) return false;
  if (tensor.dtype == DType::kBytes) return CheckBytes(tensor.data.view(), *count, "output").ok();
  return ByteSize(tensor.dtype, tensor.shape) == tensor.data.size();
}

Parameters ReadParameters(MessageReader& reader) {
  Parameters parameters;
  const size_t count = reader.Count(sizeof(uint64_t) + 2);
  for (size_t i = 0; i < count; ++i) {
    std::string name = reader.Text();
    ParameterValue value;
    switch (reader.Number<uint8_t>()) {
      case 0:
        value = reader.Flag();
        break;
      case 1:
        value = reader.Number<int64_t>();
        break;
      case 2:
        value = reader.Number<uint64_t>();
        break;
      case 3:
        value = reader.Number<double>();
        break;
      case 4:
        value = reader.Text();
        break;
      default:
        reader.Fail();
    }
    parameters.emplace_back(std::move(name), std::move(value));
  }
  return parameters;
}

class NoCollector final : public TraceCollector {
 public:
  void Collect(TraceRecord) noexcept override {}
};

// A trace that knows its context, if there is one, and records nothing.
std::shared_ptr<Trace> TraceOf(uint64_t number, const std::string& parent, const std::string& state) {
  TraceRecord record;
  record.id = number;
  if (const auto parsed = ParseTraceParent(parent)) {
    record.spans.trace = parsed->trace;
    record.spans.model = parsed->span;
  }
  record.spans.state = state;
  static const auto collector = std::make_shared<NoCollector>();
  static const auto clock = std::make_shared<SystemClock>();
  return std::make_shared<Trace>(std::move(record), collector, clock);
}

// A tensor and its data as its data type and shape say. BYTES, whose lengths are read more than once, are copied where
// the other side could write to them.
Tensor ReadChecked(MessageReader& reader) {
  Tensor tensor = ReadTensor(reader);
  if (tensor.data.foreign() && tensor.dtype == DType::kBytes) {
    tensor.data = Slice::Copy(tensor.data.data(), tensor.data.size());
  }
  if (!reader.failed() && !Fits(tensor)) reader.Fail();
  return tensor;
}

std::vector<Tensor> ReadTensors(MessageReader& reader) {
  std::vector<Tensor> tensors;
  const size_t count = reader.Count(sizeof(uint64_t));
  for (size_t i = 0; i < count && !reader.failed(); ++i) tensors.push_back(ReadChecked(reader));
  return tensors;
}

void WriteTensors(MessageWriter& writer, const std::vector<Tensor>& tensors) {
  writer.Number(static_cast<uint32_t>(tensors.size()));
  for (const Tensor& tensor : tensors) WriteTensor(writer, tensor);
}

}  // namespace

void WriteNumbers(MessageWriter& writer, const std::vector<uint64_t>& numbers) {
  writer.Number(static_cast<uint32_t>(numbers.size()));
  for (const uint64_t number : numbers) writer.Number(number);
}

void WriteRequest(MessageWriter& writer, const Request& request) {
  writer.Text(request.id);
  writer.Number(request.correlation_id.number);
  writer.Text(request.correlation_id.text);
  writer.Number(request.flags);
  writer.Number(request.priority);
  writer.Number(request.timeout_us);
  const auto context = request.trace ? request.trace->Context() : std::nullopt;
  writer.Number(static_cast<uint8_t>(request.trace != nullptr));
  writer.Text(context ? context->parent : std::string());
  writer.Text(context ? context->state : std::string());
  // Who executes it there does not know the model's outputs.
  const bool all = request.requested_outputs.empty() && request.model;
  writer.Number(static_cast<uint32_t>(all ? request.model->outputs.size() : request.requested_outputs.size()));
  for (const RequestedOutput& output : request.requested_outputs) writer.Text(output.name);
  if (all) {
    for (const TensorSpec& output : request.model->outputs) writer.Text(output.name);
  }
  WriteParameters(writer, request.parameters);
  WriteTensors(writer, request.inputs);
}

void ReadRequest(MessageReader& reader, Request& request, uint64_t number) {
  request.id = reader.Text();
  request.correlation_id.number = reader.Number<uint64_t>();
  request.correlation_id.text = reader.Text();
  request.flags = reader.Number<uint32_t>();
  request.priority = reader.Number<uint64_t>();
  request.timeout_us = reader.Number<uint64_t>();
  const bool traced = reader.Flag();
  const std::string parent = reader.Text();
  const std::string state = reader.Text();
  if (traced) request.trace = TraceOf(number, parent, state);
  request.requested_outputs.resize(reader.Count(sizeof(uint64_t)));
  for (RequestedOutput& output : request.requested_outputs) output.name = reader.Text();
  request.parameters = ReadParameters(reader);
  request.inputs = ReadTensors(reader);
}

void WriteResponse(MessageWriter& writer, const Response& response) {
  writer.Number(static_cast<uint8_t>(response.only_ends));
  writer.Number(static_cast<uint8_t>(response.status.code()));
  writer.Text(response.status.message());
  WriteParameters(writer, response.parameters);
  WriteTensors(writer, response.outputs);
}

Response ReadResponse(MessageReader& reader) {
  Response response;
  response.only_ends = reader.Flag();
  const auto code = reader.Number<uint8_t>();
  if (code > static_cast<uint8_t>(Code::kResourceExhausted)) reader.Fail();
  std::string text = reader.Text();
  if (code != 0 && !reader.failed()) response.status = {static_cast<Code>(code), std::move(text)};
  response.parameters = ReadParameters(reader);
  response.outputs = ReadTensors(reader);
  return response;
}

}  // namespace pyinfer
