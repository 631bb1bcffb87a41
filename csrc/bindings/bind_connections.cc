// SPDX-License-Identifier: Apache-2.0
// bind_connections.cc - Mailbox and the HTTP/1.1 connections of one event loop.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "bindings/arrays.h"
#include "bindings/connections.h"
#include "bindings/gil.h"
#include "bindings/register.h"
#include "protocol/error_map.h"
#include "protocol/header_forwarding.h"
#include "protocol/http_connection.h"
#include "protocol/known_heads.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

py::object OutputObject(const Output& output) {
  if (output.pieces().empty()) return ToBytes(output.tail());
  py::list pieces;
  for (const Slice& piece : output.pieces()) pieces.append(ToMemoryView(piece));
  if (!output.tail().empty()) pieces.append(ToBytes(output.tail()));
  return pieces;
}

// What a connection wants after its data is written.
constexpr int kClose = 1, kHasEvents = 2;

// What is further away is asked for again in time: a loop need not set a timer for the keepalive of each connection.
constexpr double kHorizonSeconds = 2;

std::optional<double> NextDeadline(const MailboxHandle& handle) {
  const TimeNs next = handle.mailbox->NextFlush();
  if (next == 0) return std::nullopt;
  const double wait = static_cast<double>(next - handle.mailbox->acceptor().Now()) * 1e-9;
  if (wait > kHorizonSeconds) return std::nullopt;
  return std::max(0.0, wait);
}

py::tuple Flush(MailboxHandle& handle, bool rung) {
  std::vector<Written> written;
  std::optional<double> deadline;
  {
    ReleaseGil release;
    written = rung ? handle.FlushRung() : handle.mailbox->Flush();
    deadline = NextDeadline(handle);
  }
  ObjectGraveyard::Default().Sweep();
  py::list items(written.size());
  for (size_t i = 0; i < written.size(); ++i) {
    const int then = (written[i].close ? kClose : 0) | (written[i].has_events ? kHasEvents : 0);
    items[i] = py::make_tuple(written[i].connection_id, OutputObject(written[i].output), then);
  }
  return py::make_tuple(std::move(items), deadline);
}

// --- headers that become parameters ---

using HeaderPair = std::pair<py::bytes, py::bytes>;
using TextPair = std::pair<std::string, std::string>;

std::vector<TextPair> ForwardedHeaders(HeaderForwarding& forwarding, const std::vector<HeaderPair>& headers) {
  Parameters parameters;
  for (const auto& [name, value] : headers) {
    const Status status =
        forwarding.Forward(static_cast<std::string_view>(name), static_cast<std::string_view>(value), parameters);
    if (!status.ok()) throw py::value_error(status.message());
  }
  std::vector<TextPair> forwarded;
  for (auto& [name, value] : parameters)
    forwarded.emplace_back(std::move(name), std::get<std::string>(std::move(value)));
  return forwarded;
}

void BindHeaders(py::module_& module) {
  py::class_<HeaderForwarding, std::shared_ptr<HeaderForwarding>>(module, "HeaderForwarding", py::is_final())
      .def(py::init([](const std::string& pattern) {
             auto made = HeaderForwarding::Make(pattern);
             if (!made.ok()) throw py::value_error(made.status().message());
             return std::shared_ptr<HeaderForwarding>(std::move(made).value());
           }),
           py::arg("pattern"))
      .def("forwarded", &ForwardedHeaders, py::arg("headers"));
}

// --- HTTP/1.1 ---

using HttpHandle = ConnectionHandle<HttpConnection>;
using ParseJob = HttpConnection::ParseJob;

std::unique_ptr<ParseJob> Infer(HttpHandle& http, const HttpConnection::InferHead& head, const py::bytes& data,
                                size_t start, size_t stop, bool last, std::string_view traceparent,
                                std::string_view tracestate) {
  const auto bytes = static_cast<std::string_view>(data);
  if (start > stop || stop > bytes.size()) throw py::index_error("start and stop must lie within the data");
  http->Append(bytes.substr(start, stop - start));
  std::unique_ptr<TraceContext> context;
  if (!traceparent.empty()) {
    context = std::make_unique<TraceContext>();
    context->AddParent(traceparent);
    context->AddState(tracestate);
  }
  if (http->body_size() < kReleaseGilFrom) return http->Infer(head, last, std::move(context));
  ReleaseGil release;
  return http->Infer(head, last, std::move(context));
}

size_t Take(HttpHandle& http, KnownHeads& known, size_t nbytes) {
  const ReadBuffer& buffer = http->mailbox().read_buffer();
  if (nbytes > buffer.size()) throw py::index_error("nbytes must lie within the read buffer");
  const std::string_view received(reinterpret_cast<const char*>(buffer.data()), nbytes);
  if (nbytes < kReleaseGilFrom) return http->Take(known, received);
  ReleaseGil release;
  return http->Take(known, received);
}

HttpConnection::Kind KindOf(std::string_view name) {
  if (name == "infer") return HttpConnection::Kind::kInfer;
  if (name == "generate") return HttpConnection::Kind::kGenerate;
  if (name == "generate_stream") return HttpConnection::Kind::kGenerateStream;
  throw py::value_error("kind must be infer, generate or generate_stream, got '" + std::string(name) + "'");
}

std::shared_ptr<HttpConnection::InferHead> MakeInferHead(std::string model, std::string version, std::string_view kind,
                                                         std::optional<std::string> header_length,
                                                         std::string content_encoding, std::string accept_encoding,
                                                         bool keep_alive, bool chunked,
                                                         const std::vector<TextPair>& forwarded, std::string refusal) {
  HttpConnection::InferCall call;
  call.kind = KindOf(kind);
  call.model = std::move(model);
  call.version = std::move(version);
  call.header_length = std::move(header_length);
  call.content_encoding = std::move(content_encoding);
  call.accept_encoding = std::move(accept_encoding);
  call.keep_alive = keep_alive;
  call.chunked = chunked;
  for (const auto& [name, value] : forwarded) call.forwarded.emplace_back(name, value);
  call.refusal = std::move(refusal);
  return std::make_shared<HttpConnection::InferHead>(std::move(call));
}

void RespondHttp(HttpHandle& http, uint64_t place, int status, const std::optional<py::bytes>& body,
                 const std::vector<TextPair>& headers, bool keep_alive) {
  std::vector<HttpHeader> list;
  for (const auto& [name, value] : headers) list.push_back({name, value});
  std::optional<std::string_view> text;
  if (body) text = static_cast<std::string_view>(*body);
  http->Respond(place, status, text, list, keep_alive);
}

void BindHttp(py::module_& module) {
  py::class_<ParseJob>(module, "ParseJob", py::is_final()).def("__call__", [](ParseJob& job) {
    ReleaseGil release;
    job.Run(/*dispatch=*/true);
  });

  py::class_<HttpConnection::InferHead, std::shared_ptr<HttpConnection::InferHead>>(module, "InferHead", py::is_final())
      .def(py::init(&MakeInferHead), py::arg("model"), py::arg("version"), py::kw_only(), py::arg("kind") = "infer",
           py::arg("header_length") = std::nullopt, py::arg("content_encoding") = "", py::arg("accept_encoding") = "",
           py::arg("keep_alive") = true, py::arg("chunked") = true, py::arg("forwarded") = std::vector<TextPair>(),
           py::arg("refusal") = "");

  py::class_<KnownHeads>(module, "KnownHeads", py::is_final())
      .def(py::init<size_t>(), py::arg("capacity"))
      .def(
          "add",
          [](KnownHeads& known, const py::bytes& data, std::shared_ptr<HttpConnection::InferHead> head, size_t length) {
            known.Add(static_cast<std::string_view>(data), std::move(head), length);
          },
          py::arg("data"), py::arg("head"), py::arg("length"));

  py::class_<HttpHandle>(module, "HttpConnection", py::is_final())
      .def(py::init([](const MailboxHandle& handle, uint64_t id, size_t max_input_size, size_t max_body_size) {
             return std::make_unique<HttpHandle>(std::make_shared<HttpConnection>(
                 handle.mailbox, id, HttpConnection::Options{max_input_size, max_body_size}));
           }),
           py::arg("mailbox"), py::arg("connection_id"), py::kw_only(), py::arg("max_input_size") = size_t{64} << 20,
           py::arg("max_body_size") = size_t{0x7fffffff})
      .def(
          "append",
          [](HttpHandle& http, const py::bytes& chunk) { return http->Append(static_cast<std::string_view>(chunk)); },
          py::arg("chunk"))
      .def(
          "body_buffer",
          [](HttpHandle& http, size_t nbytes) {
            const HttpConnection::Room room = http->BodyBuffer(nbytes);
            return Writable(room.data, room.size);
          },
          py::arg("nbytes"))
      .def(
          "body_filled", [](HttpHandle& http, size_t nbytes) { http->BodyFilled(nbytes); }, py::arg("nbytes"))
      .def("body_size", [](const HttpHandle& http) { return http->body_size(); })
      .def("take_body", [](HttpHandle& http) { return ToBytes(http->TakeBody().view()); })
      .def("infer", &Infer, py::arg("head"), py::arg("data") = py::bytes(), py::arg("start") = 0, py::arg("stop") = 0,
           py::arg("last") = false, py::arg("traceparent") = "", py::arg("tracestate") = "")
      .def("take", &Take, py::arg("known"), py::arg("nbytes"))
      .def("open", [](HttpHandle& http) { return http->Open(); })
      .def("respond", &RespondHttp, py::arg("place"), py::arg("status"), py::arg("body"), py::kw_only(),
           py::arg("headers") = std::vector<TextPair>(), py::arg("keep_alive") = true)
      .def("in_flight", [](const HttpHandle& http) { return http->in_flight(); })
      .def("hang_up", [](HttpHandle& http) { http->HangUp(); })
      .def("pause", [](HttpHandle& http) { http->Pause(); })
      .def("resume", [](HttpHandle& http) { http->Resume(); })
      .def("close", [](HttpHandle& http) { http->Close(); });
}

}  // namespace

void BindConnections(py::module_& module) {
  py::class_<MailboxHandle>(module, "Mailbox", py::is_final())
      .def(py::init<std::shared_ptr<Engine>>(), py::arg("engine"))
      .def("fileno", [](const MailboxHandle& handle) { return handle.mailbox->fd(); })
      .def("read_buffer",
           [](const MailboxHandle& handle) {
             ReadBuffer& memory = handle.mailbox->read_buffer();
             return Writable(memory.data(), memory.size());
           })
      .def("attend_doorbell", [](MailboxHandle& handle) { return handle.Attend().fd(); })
      .def("flush", &Flush, py::arg("rung") = false)
      .def("next_deadline", &NextDeadline)
      .def("close", &MailboxHandle::Close);
  BindHeaders(module);
  BindHttp(module);
}

}  // namespace pyinfer
