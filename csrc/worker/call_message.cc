// SPDX-License-Identifier: Apache-2.0
#include "worker/call_message.h"

#include <utility>

namespace pyinfer {

void WriteCall(MessageWriter& writer, const CallTerms& terms, const Request& request) {
  writer.Number(terms.number);
  writer.Number(static_cast<uint8_t>(terms.decoupled));
  writer.Number(static_cast<uint8_t>(terms.by_instance));
  WriteNumbers(writer, terms.parents);
  writer.Number(terms.trace);
  writer.Text(request.model_name);
  writer.Number(request.model_version);
  WriteRequest(writer, request);
}

void WriteCancel(MessageWriter& writer, uint64_t number) { writer.Number(number); }

void WriteCallResponse(MessageWriter& writer, uint64_t number, const Response& response, bool final) {
  writer.Number(number);
  writer.Number(static_cast<uint8_t>(final));
  WriteResponse(writer, response);
}

StatusOr<WorkerCall> ReadCall(const Slice& message, const CallSinkMaker& make_sink) {
  MessageReader reader(message, MessageKind::kCall, /*foreign=*/true);
  WorkerCall call;
  call.terms.number = reader.Number<uint64_t>();
  call.terms.decoupled = reader.Flag();
  call.terms.by_instance = reader.Flag();
  call.terms.parents = reader.Numbers();
  call.terms.trace = reader.Number<uint64_t>();
  if (reader.failed()) return SenselessMessage();
  call.request = std::make_unique<Request>(make_sink(call.terms.number));
  call.request->model_name = reader.Text();
  call.request->model_version = reader.Number<int64_t>();
  ReadRequest(reader, *call.request, 0);
  if (!reader.at_end() || call.request->trace) return SenselessMessage();
  return {std::move(call)};
}

StatusOr<uint64_t> ReadCancel(const Slice& message) {
  MessageReader reader(message, MessageKind::kCancel, /*foreign=*/true);
  const auto number = reader.Number<uint64_t>();
  if (!reader.at_end()) return SenselessMessage();
  return number;
}

StatusOr<CallResponse> ReadCallResponse(const Slice& message) {
  MessageReader reader(message, MessageKind::kResponse, /*foreign=*/false);
  CallResponse response;
  response.number = reader.Number<uint64_t>();
  response.final = reader.Flag();
  response.response = ReadResponse(reader);
  if (!reader.at_end()) return SenselessMessage();
  return {std::move(response)};
}

}  // namespace pyinfer
