// SPDX-License-Identifier: Apache-2.0
#include "worker/message.h"

#include <cstring>

#include "worker/lane.h"

namespace pyinfer {

void MessageWriter::Text(std::string_view text) {
  Number(static_cast<uint64_t>(text.size()));
  description_.append(text);
}

void MessageWriter::Zeros(uint64_t size) {
  parts_.push_back({data_size_, nullptr, size});
  data_size_ += LaneAligned(size);
}

void MessageWriter::Data(std::string_view bytes) {
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

void WriteRequest(MessageWriter& writer, const Request& request) {
  writer.Text(request.id);
  writer.Number(request.correlation_id.number);
  writer.Text(request.correlation_id.text);
  writer.Number(request.flags);
  writer.Number(request.priority);
  writer.Number(request.timeout_us);
  const auto context = request.trace ? request.trace->Context() : std::nullopt;
  writer.Text(context ? context->parent : std::string());
  writer.Text(context ? context->state : std::string());
  // The worker does not know the model's outputs.
  const bool all = request.requested_outputs.empty();
  writer.Number(static_cast<uint32_t>(all ? request.model->outputs.size() : request.requested_outputs.size()));
  for (const RequestedOutput& output : request.requested_outputs) writer.Text(output.name);
  if (all) {
    for (const TensorSpec& output : request.model->outputs) writer.Text(output.name);
  }
  WriteParameters(writer, request.parameters);
  writer.Number(static_cast<uint32_t>(request.inputs.size()));
  for (const Tensor& input : request.inputs) WriteTensor(writer, input);
}

// What a description says, piece by piece. Once a piece is not there, everything that follows is zero or empty.
class Reader {
 public:
  Reader(std::string_view description, Slice data) : rest_(description), data_(std::move(data)) {}

  bool failed() const { return failed_; }
  bool at_end() const { return !failed_ && rest_.empty(); }
  void Fail() {
    failed_ = true;
    rest_ = {};
  }

  template <typename T>
  T Number() {
    T value{};
    const std::string_view bytes = Bytes(sizeof(value));
    if (!failed_) std::memcpy(&value, bytes.data(), sizeof(value));
    return value;
  }
  std::string Text() { return std::string(Bytes(Number<uint64_t>())); }
  // How many pieces follow, each of `least` bytes or more: what is made for them is bounded by what there is.
  size_t Count(size_t least) {
    const auto count = Number<uint32_t>();
    if (count > rest_.size() / least) Fail();
    return failed_ ? 0 : count;
  }
  bool Flag() { return Number<uint8_t>() != 0; }
  Slice Data() {
    const auto offset = Number<uint64_t>();
    const auto size = Number<uint64_t>();
    if (offset > data_.size() || size > data_.size() - offset) Fail();
    return failed_ ? Slice() : data_.Sub(offset, size);
  }

 private:
  std::string_view Bytes(uint64_t size) {
    if (size > rest_.size()) Fail();
    if (failed_) return {};
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }

  std::string_view rest_;
  const Slice data_;
  bool failed_ = false;
};

Status Senseless() { return Status::InvalidArg("a message between server and worker process makes no sense"); }

struct Parts {
  Slice description;
  Slice data;
};

// A message cut in two; nothing where it can not be.
std::optional<Parts> Cut(const Slice& message) {
  uint64_t size = 0;
  if (message.size() < sizeof(size)) return std::nullopt;
  std::memcpy(&size, message.data(), sizeof(size));
  if (size > message.size() - sizeof(size)) return std::nullopt;
  const uint64_t data = LaneAligned(sizeof(size) + size);
  return Parts{message.Sub(sizeof(size), size),
               data > message.size() ? Slice() : message.Sub(data, message.size() - data)};
}

// Reads the kind.
Reader Open(const Parts& parts, MessageKind expected) {
  Reader reader(parts.description.view(), parts.data);
  if (reader.Number<uint8_t>() != static_cast<uint8_t>(expected)) reader.Fail();
  return reader;
}

Tensor ReadTensor(Reader& reader) {
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

Parameters ReadParameters(Reader& reader) {
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

// A trace that knows its context and records nothing.
std::shared_ptr<Trace> TraceOf(const std::string& parent, const std::string& state) {
  const auto parsed = ParseTraceParent(parent);
  if (!parsed) return nullptr;
  TraceRecord record;
  record.spans.trace = parsed->trace;
  record.spans.model = parsed->span;
  record.spans.state = state;
  static const auto collector = std::make_shared<NoCollector>();
  static const auto clock = std::make_shared<SystemClock>();
  return std::make_shared<Trace>(std::move(record), collector, clock);
}

void ReadRequest(Reader& reader, Request& request) {
  request.id = reader.Text();
  request.correlation_id.number = reader.Number<uint64_t>();
  request.correlation_id.text = reader.Text();
  request.flags = reader.Number<uint32_t>();
  request.priority = reader.Number<uint64_t>();
  request.timeout_us = reader.Number<uint64_t>();
  const std::string parent = reader.Text();
  const std::string state = reader.Text();
  if (!parent.empty()) request.trace = TraceOf(parent, state);
  request.requested_outputs.resize(reader.Count(sizeof(uint64_t)));
  for (RequestedOutput& output : request.requested_outputs) output.name = reader.Text();
  request.parameters = ReadParameters(reader);
  const size_t inputs = reader.Count(sizeof(uint64_t));
  for (size_t i = 0; i < inputs && !reader.failed(); ++i) {
    Tensor input = ReadTensor(reader);
    if (!reader.failed() && !Fits(input)) reader.Fail();
    request.inputs.push_back(std::move(input));
  }
}

WorkerAnswer ReadAnswer(Reader& reader) {
  WorkerAnswer answer;
  answer.request = reader.Number<uint64_t>();
  answer.apart = reader.Flag();
  answer.final = reader.Flag();
  answer.response.only_ends = reader.Flag();
  const auto code = reader.Number<uint8_t>();
  if (code > static_cast<uint8_t>(Code::kResourceExhausted)) reader.Fail();
  std::string text = reader.Text();
  if (code != 0) answer.response.status = {static_cast<Code>(code), std::move(text)};
  answer.response.parameters = ReadParameters(reader);
  const size_t outputs = reader.Count(sizeof(uint64_t));
  for (size_t i = 0; i < outputs && !reader.failed(); ++i) {
    Tensor output = ReadTensor(reader);
    // Checked below where the bytes can not change any more.
    if (output.data.foreign() && output.dtype == DType::kBytes) {
      output.data = Slice::Copy(output.data.data(), output.data.size());
    }
    if (!reader.failed() && !Fits(output)) reader.Fail();
    answer.response.outputs.push_back(std::move(output));
  }
  return answer;
}

// What is smaller is copied as a whole, and its block is given back at once.
constexpr size_t kReferenceFrom = size_t{256} << 10;

}  // namespace

void WriteModel(MessageWriter& writer, const ModelSpec& model) {
  writer.Text(model.name);
  writer.Number(model.version);
  writer.Number(static_cast<uint8_t>(model.decoupled));
  writer.Number(static_cast<uint8_t>(model.sequence.has_value()));
  writer.Number(static_cast<uint8_t>(model.sequence && model.sequence->iterative));
}

void WriteBatch(MessageWriter& writer, const std::vector<const Request*>& requests, uint64_t first, bool has_states) {
  writer.Zeros(requests.size());
  writer.Number(first);
  writer.Number(static_cast<uint8_t>(has_states));
  writer.Number(static_cast<uint32_t>(requests.size()));
  for (const Request* request : requests) WriteRequest(writer, *request);
}

void WriteAnswers(MessageWriter& writer, const WorkerAnswers& answers) {
  writer.Number(static_cast<uint8_t>(answers.done));
  for (const auto* numbers : {&answers.detached, &answers.rescheduled}) {
    writer.Number(static_cast<uint32_t>(numbers->size()));
    for (const uint64_t number : *numbers) writer.Number(number);
  }
  writer.Number(static_cast<uint32_t>(answers.answers.size()));
  for (const WorkerAnswer& answer : answers.answers) {
    writer.Number(answer.request);
    writer.Number(static_cast<uint8_t>(answer.apart));
    writer.Number(static_cast<uint8_t>(answer.final));
    writer.Number(static_cast<uint8_t>(answer.response.only_ends));
    writer.Number(static_cast<uint8_t>(answer.response.status.code()));
    writer.Text(answer.response.status.message());
    WriteParameters(writer, answer.response.parameters);
    writer.Number(static_cast<uint32_t>(answer.response.outputs.size()));
    for (const Tensor& output : answer.response.outputs) WriteTensor(writer, output);
  }
}

StatusOr<MessageKind> KindOf(const Slice& message) {
  constexpr size_t kAt = sizeof(uint64_t);
  if (message.size() <= kAt || message.data()[kAt] > static_cast<uint8_t>(MessageKind::kAnswers)) return Senseless();
  return static_cast<MessageKind>(message.data()[kAt]);
}

StatusOr<std::shared_ptr<const ModelSpec>> ReadModel(const Slice& message) {
  const std::optional<Parts> parts = Cut(message);
  if (!parts) return Senseless();
  Reader reader = Open(*parts, MessageKind::kModel);
  auto model = std::make_shared<ModelSpec>();
  model->name = reader.Text();
  model->version = reader.Number<int64_t>();
  model->decoupled = reader.Flag();
  if (reader.Flag()) model->sequence.emplace();
  const bool iterative = reader.Flag();
  if (model->sequence) model->sequence->iterative = iterative;
  if (!reader.at_end()) return Senseless();
  return {std::shared_ptr<const ModelSpec>(std::move(model))};
}

StatusOr<WorkerBatch> ReadBatch(const Slice& message, const std::shared_ptr<const ModelSpec>& model,
                                const SinkMaker& make_sink) {
  const std::optional<Parts> parts = Cut(message);
  if (!parts) return Senseless();
  Reader reader = Open(*parts, MessageKind::kBatch);
  WorkerBatch batch;
  batch.first = reader.Number<uint64_t>();
  batch.has_states = reader.Flag();
  const size_t count = reader.Count(sizeof(uint64_t));
  if (count == 0 || count > parts->data.size()) return Senseless();
  for (size_t i = 0; i < count && !reader.failed(); ++i) {
    const uint64_t number = batch.first + i;
    auto request = std::make_unique<Request>(make_sink(number, parts->data.data() + i));
    request->model = model;
    request->model_name = model->name;
    request->model_version = model->version;
    ReadRequest(reader, *request);
    batch.requests.push_back(std::move(request));
  }
  if (!reader.at_end()) return Senseless();
  return {std::move(batch)};
}

StatusOr<WorkerAnswers> ReadAnswers(const Slice& message) {
  // The description is read once, from a copy that nobody writes to; so is all that is small.
  const bool small = message.size() < kReferenceFrom;
  std::optional<Parts> parts = Cut(small ? Slice::Copy(message.data(), message.size()) : message);
  if (!parts) return Senseless();
  if (!small) parts->description = Slice::Copy(parts->description.data(), parts->description.size());
  Reader reader = Open(*parts, MessageKind::kAnswers);
  WorkerAnswers answers;
  answers.done = reader.Flag();
  for (auto* numbers : {&answers.detached, &answers.rescheduled}) {
    numbers->resize(reader.Count(sizeof(uint64_t)));
    for (uint64_t& number : *numbers) number = reader.Number<uint64_t>();
  }
  const size_t count = reader.Count(sizeof(uint64_t));
  for (size_t i = 0; i < count && !reader.failed(); ++i) answers.answers.push_back(ReadAnswer(reader));
  if (!reader.at_end()) return Senseless();
  return {std::move(answers)};
}

}  // namespace pyinfer
