// SPDX-License-Identifier: Apache-2.0
#include "worker/message.h"

#include <utility>

namespace pyinfer {

void WriteModel(MessageWriter& writer, const ModelSpec& model) {
  writer.Text(model.name);
  writer.Number(model.version);
  writer.Number(static_cast<uint8_t>(model.decoupled));
  writer.Number(static_cast<uint8_t>(model.sequence.has_value()));
  writer.Number(static_cast<uint8_t>(model.sequence && model.sequence->iterative));
}

void WriteBatch(MessageWriter& writer, const std::vector<const Request*>& requests, uint64_t first, bool has_states,
                bool rings) {
  writer.Zeros(requests.size() * sizeof(RequestSigns));
  writer.Number(first);
  writer.Number(static_cast<uint8_t>(has_states));
  writer.Number(static_cast<uint8_t>(rings));
  writer.Number(static_cast<uint32_t>(requests.size()));
  for (const Request* request : requests) WriteRequest(writer, *request);
}

void WriteAnswers(MessageWriter& writer, const WorkerAnswers& answers) {
  writer.Number(static_cast<uint8_t>(answers.done));
  WriteNumbers(writer, answers.detached);
  WriteNumbers(writer, answers.rescheduled);
  writer.Number(static_cast<uint32_t>(answers.answers.size()));
  for (const WorkerAnswer& answer : answers.answers) {
    writer.Number(answer.request);
    writer.Number(static_cast<uint8_t>(answer.apart));
    writer.Number(static_cast<uint8_t>(answer.final));
    WriteResponse(writer, answer.response);
  }
}

StatusOr<std::shared_ptr<const ModelSpec>> ReadModel(const Slice& message) {
  MessageReader reader(message, MessageKind::kModel, /*foreign=*/false);
  auto model = std::make_shared<ModelSpec>();
  model->name = reader.Text();
  model->version = reader.Number<int64_t>();
  model->decoupled = reader.Flag();
  if (reader.Flag()) model->sequence.emplace();
  const bool iterative = reader.Flag();
  if (model->sequence) model->sequence->iterative = iterative;
  if (!reader.at_end()) return SenselessMessage();
  return {std::shared_ptr<const ModelSpec>(std::move(model))};
}

StatusOr<WorkerBatch> ReadBatch(const Slice& message, const std::shared_ptr<const ModelSpec>& model,
                                const SinkMaker& make_sink, Lender lender) {
  MessageReader reader(message, MessageKind::kBatch, /*foreign=*/false, std::move(lender));
  WorkerBatch batch;
  batch.first = reader.Number<uint64_t>();
  batch.has_states = reader.Flag();
  batch.rings = reader.Flag();
  const size_t count = reader.Count(sizeof(uint64_t));
  if (count == 0 || count > reader.data().size() / sizeof(RequestSigns)) return SenselessMessage();
  for (size_t i = 0; i < count && !reader.failed(); ++i) {
    const uint64_t number = batch.first + i;
    auto request = std::make_unique<Request>(make_sink(number, RequestSigns::At(reader.data().data(), i)));
    request->model = model;
    request->model_name = model->name;
    request->model_version = model->version;
    ReadRequest(reader, *request, number);
    batch.requests.push_back(std::move(request));
  }
  if (!reader.at_end()) return SenselessMessage();
  return {std::move(batch)};
}

StatusOr<WorkerAnswers> ReadAnswers(const Slice& message, Lender lender) {
  MessageReader reader(message, MessageKind::kAnswers, /*foreign=*/true, std::move(lender));
  WorkerAnswers answers;
  answers.done = reader.Flag();
  answers.detached = reader.Numbers();
  answers.rescheduled = reader.Numbers();
  const size_t count = reader.Count(sizeof(uint64_t));
  for (size_t i = 0; i < count && !reader.failed(); ++i) {
    WorkerAnswer answer;
    answer.request = reader.Number<uint64_t>();
    answer.apart = reader.Flag();
    answer.final = reader.Flag();
    answer.response = ReadResponse(reader);
    answers.answers.push_back(std::move(answer));
  }
  if (!reader.at_end()) return SenselessMessage();
  return {std::move(answers)};
}

}  // namespace pyinfer
