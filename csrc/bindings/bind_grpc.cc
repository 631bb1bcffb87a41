// SPDX-License-Identifier: Apache-2.0
// bind_grpc.cc - the connections of the gRPC port and what they share.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "bindings/connections.h"
#include "bindings/gil.h"
#include "bindings/register.h"
#include "protocol/error_map.h"
#include "protocol/grpc_connection.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

using Options = GrpcConnection::Options;
using Event = GrpcConnection::ControlEvent;

constexpr TimeNs kMillisecond = 1'000'000;
// As gRPC has it: this many milliseconds are for ever.
constexpr int64_t kForever = 0x7fffffff;

// 0 of a KeepaliveOptions means never, and gRPC takes 0 for the shortest time there is.
TimeNs Interval(int64_t milliseconds) {
  return milliseconds >= kForever ? 0 : std::max<int64_t>(1, milliseconds) * kMillisecond;
}

CompressionLevel LevelOf(const std::string& name) {
  if (name == "none") return CompressionLevel::kNone;
  if (name == "low") return CompressionLevel::kLow;
  if (name == "medium") return CompressionLevel::kMedium;
  if (name == "high") return CompressionLevel::kHigh;
  throw py::value_error("response_compression must be none, low, medium or high, got '" + name + "'");
}

std::shared_ptr<Options> MakeOptions(const std::vector<std::string>& unary, const std::vector<std::string>& streaming,
                                     const std::map<std::string, std::pair<std::string, std::string>>& restricted,
                                     uint64_t max_message_size, double message_timeout_s,
                                     uint32_t max_concurrent_streams, const std::string& response_compression,
                                     std::shared_ptr<HeaderForwarding> forwarding) {
  auto options = std::make_shared<Options>();
  for (const std::string& path : unary) options->routes.Add(path, GrpcRoute::Kind::kControl);
  for (const std::string& path : streaming) options->routes.Add(path, GrpcRoute::Kind::kControlStream);
  for (const auto& [path, key] : restricted) {
    if (options->routes.Find(path) == nullptr) throw py::value_error("unknown path '" + path + "' is restricted");
    options->routes.Restrict(path, key.first, key.second);
  }
  options->max_message_size = max_message_size;
  options->message_timeout = static_cast<TimeNs>(message_timeout_s * 1e9);
  options->max_concurrent_streams = max_concurrent_streams;
  options->compression_level = LevelOf(response_compression);
  options->forwarding = std::move(forwarding);
  return options;
}

void SetKeepalive(Options& options, int64_t time_ms, int64_t timeout_ms, bool permit_without_calls,
                  int64_t max_pings_without_data, int64_t min_ping_interval_ms, int64_t max_ping_strikes,
                  int64_t max_age_ms, int64_t max_age_grace_ms) {
  KeepaliveOptions& keepalive = options.keepalive;
  keepalive.time = Interval(time_ms);
  keepalive.timeout = std::max<int64_t>(1, timeout_ms) * kMillisecond;
  keepalive.permit_without_calls = permit_without_calls;
  keepalive.max_pings_without_data = max_pings_without_data;
  keepalive.min_ping_interval_without_data = min_ping_interval_ms * kMillisecond;
  keepalive.max_ping_strikes = max_ping_strikes;
  keepalive.max_age = max_age_ms == 0 ? 0 : Interval(max_age_ms);
  keepalive.max_age_grace = max_age_grace_ms == 0 ? 0 : Interval(max_age_grace_ms);
}

// Beside the connection, the mailbox whose memory its transport reads into.
class GrpcHandle : public ConnectionHandle<GrpcConnection> {
 public:
  GrpcHandle(const MailboxHandle& handle, uint64_t id, std::shared_ptr<const Options> options)
      : ConnectionHandle(std::make_shared<GrpcConnection>(handle.mailbox, id, std::move(options))),
        mailbox(handle.mailbox) {}

  const std::shared_ptr<Mailbox> mailbox;
};

constexpr int kHasEvents = 1, kNewTarget = 2;

int Received(GrpcHandle& grpc, size_t nbytes) {
  ReadBuffer& memory = grpc.mailbox->read_buffer();
  const Space target = grpc->target();
  const uint8_t* const data = target.data != nullptr ? target.data : memory.data();
  if (nbytes > (target.size != 0 ? target.size : memory.size())) {
    throw py::value_error("more bytes than the buffer holds");
  }
  if (nbytes < kReleaseGilFrom) {
    grpc->Receive(data, nbytes);
  } else {
    ReleaseGil release;
    grpc->Receive(data, nbytes);
  }
  return (grpc->has_events() ? kHasEvents : 0) | (target.size != 0 || grpc->target().size != 0 ? kNewTarget : 0);
}

py::object Target(GrpcHandle& grpc) {
  ReadBuffer& memory = grpc.mailbox->read_buffer();
  const Space& target = grpc->target();
  if (target.data == nullptr) return Writable(memory.data(), target.size != 0 ? target.size : memory.size());
  const py::object holder = py::cast(target);
  return py::reinterpret_steal<py::object>(PyMemoryView_FromObject(holder.ptr()));
}

const char* NameOf(Event::Kind kind) {
  switch (kind) {
    case Event::Kind::kMessage:
      return "message";
    case Event::Kind::kEnd:
      return "end";
    default:
      return "gone";
  }
}

py::list TakeEvents(GrpcHandle& grpc) {
  py::list events;
  for (const Event& event : grpc->TakeEvents()) {
    events.append(py::make_tuple(event.call, NameOf(event.kind), event.path, ToBytes(event.message.view())));
  }
  return events;
}

void Respond(GrpcHandle& grpc, int32_t call, const py::bytes& message) {
  grpc->Send(call, static_cast<std::string_view>(message));
  grpc->Finish(call, Status());
}

}  // namespace

void BindGrpc(py::module_& module) {
  py::class_<Space>(module, "_Space", py::module_local(), py::buffer_protocol()).def_buffer([](Space& space) {
    return py::buffer_info(space.data, static_cast<py::ssize_t>(space.size));
  });
  py::class_<Options, std::shared_ptr<Options>>(module, "GrpcOptions", py::is_final())
      .def(py::init(&MakeOptions), py::kw_only(), py::arg("unary") = std::vector<std::string>(),
           py::arg("streaming") = std::vector<std::string>(),
           py::arg("restricted") = std::map<std::string, std::pair<std::string, std::string>>(),
           py::arg("max_message_size") = uint64_t{0x7fffffff}, py::arg("message_timeout_s") = 30.0,
           py::arg("max_concurrent_streams") = uint32_t{1024}, py::arg("response_compression") = "none",
           py::arg("forwarding") = nullptr)
      .def("set_keepalive", &SetKeepalive, py::kw_only(), py::arg("time_ms") = 7200000, py::arg("timeout_ms") = 20000,
           py::arg("permit_without_calls") = false, py::arg("max_pings_without_data") = 2,
           py::arg("min_recv_ping_interval_ms") = 300000, py::arg("max_ping_strikes") = 2,
           py::arg("max_connection_age_ms") = 0, py::arg("max_connection_age_grace_ms") = 0);
  py::class_<GrpcHandle>(module, "GrpcConnection", py::is_final())
      .def(py::init([](const MailboxHandle& mailbox, uint64_t id, std::shared_ptr<Options> options) {
             return std::make_unique<GrpcHandle>(mailbox, id, std::move(options));
           }),
           py::arg("mailbox"), py::arg("connection_id"), py::arg("options"))
      .def("received", &Received, py::arg("nbytes"))
      .def("target", &Target)
      .def("has_events", [](const GrpcHandle& grpc) { return grpc->has_events(); })
      .def("take_events", &TakeEvents)
      .def("respond", &Respond, py::arg("call"), py::arg("message"))
      .def(
          "send",
          [](GrpcHandle& grpc, int32_t call, const py::bytes& message) {
            grpc->Send(call, static_cast<std::string_view>(message));
          },
          py::arg("call"), py::arg("message"))
      .def(
          "finish", [](GrpcHandle& grpc, int32_t call) { grpc->Finish(call, Status()); }, py::arg("call"))
      .def(
          "fail",
          [](GrpcHandle& grpc, int32_t call, const std::string& code, std::string message) {
            grpc->Finish(call, {CodeOfName(code), std::move(message)});
          },
          py::arg("call"), py::arg("code"), py::arg("message"))
      .def("unsent", [](const GrpcHandle& grpc) { return grpc->unsent(); })
      .def("in_flight", [](const GrpcHandle& grpc) { return grpc->in_flight(); })
      .def("drain", [](GrpcHandle& grpc) { grpc->Drain(); })
      .def("pause", [](GrpcHandle& grpc) { grpc->Pause(); })
      .def("resume", [](GrpcHandle& grpc) { grpc->Resume(); })
      .def("close", [](GrpcHandle& grpc) { grpc->Close(); });
}

}  // namespace pyinfer
