// SPDX-License-Identifier: Apache-2.0
// bind_load.cc - loads, what they have met, and the fake server that they are tested with.
#include "bindings/bind_load.h"

#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/gil.h"
#include "load/fake_server.h"
#include "load/grpc_call.h"
#include "load/load_run.h"
#include "load/tls_client.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

py::bytes ToBytes(const std::string& text) { return py::bytes(text.data(), text.size()); }

// A server may have sent the text: it need not be UTF-8.
py::str ToText(const std::string& text) {
  auto* const decoded = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
  if (decoded == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(decoded);
}

py::dict Errors(const LoadWindow& window) {
  py::dict errors;
  for (const auto& [text, count] : window.errors) {
    const py::str key = ToText(text);
    const uint64_t before = errors.contains(key) ? errors[key].cast<uint64_t>() : 0;
    errors[key] = before + count;
  }
  return errors;
}

// One row of five int64 each.
py::bytes Records(const LoadWindow& window) {
  const auto& records = window.records;
  return py::bytes(reinterpret_cast<const char*>(records.data()), records.size() * sizeof(records[0]));
}

py::bytes ToBytes(const std::vector<int64_t>& values) {
  return py::bytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(int64_t));
}

// {"live", "length", "variation", "first_id", "end_id", "serial", "data"}, as the stub has it.
SequencePlan ToPlan(const py::dict& given, uint64_t seed) {
  SequencePlan plan;
  if (given.empty()) return plan;
  plan.live = given["live"].cast<uint32_t>();
  plan.length = given["length"].cast<uint32_t>();
  plan.variation = given["variation"].cast<double>();
  plan.first_id = given["first_id"].cast<uint64_t>();
  plan.end_id = given["end_id"].cast<uint64_t>();
  plan.serial = given["serial"].cast<bool>();
  plan.data = given["data"].cast<std::vector<std::pair<size_t, size_t>>>();
  plan.seed = seed;
  return plan;
}

// {"start", "step", "end", "period"}, as the stub has it.
RampPlan ToRamp(const py::dict& given) {
  if (given.empty()) return {};
  return {given["start"].cast<uint32_t>(), given["step"].cast<uint32_t>(), given["end"].cast<uint32_t>(),
          given["period"].cast<uint32_t>()};
}

// {body, where its messages are, how long they are, nanoseconds until the next turn} of each turn.
using GivenChats = std::vector<std::vector<std::tuple<size_t, size_t, size_t, TimeNs>>>;

std::vector<Chat> ToChats(const GivenChats& given) {
  std::vector<Chat> chats;
  for (const auto& turns : given) {
    Chat& chat = chats.emplace_back();
    for (const auto& [body, at, size, delay] : turns) chat.push_back({body, at, size, delay});
  }
  return chats;
}

LoadProtocol ToProtocol(const std::string& name) {
  if (name == "grpc") return LoadProtocol::kGrpc;
  if (name == "grpc_stream") return LoadProtocol::kGrpcStream;
  if (name == "http") return LoadProtocol::kHttp;
  throw py::value_error("protocol must be grpc, grpc_stream or http");
}

std::unique_ptr<LoadRun> MakeRun(const std::string& protocol, std::string address, uint16_t port,
                                 std::vector<std::string> bodies, ClientHeaders headers, uint32_t threads,
                                 uint32_t connections, uint32_t streams, uint32_t concurrency, double rate,
                                 bool poisson, uint64_t seed, std::vector<TimeNs> intervals_ns,
                                 std::vector<TimeNs> times_ns, uint64_t max_requests, bool record, bool streamed,
                                 const std::string& events, const py::dict& sequences,
                                 std::vector<ExpectedOutputs> expected, uint32_t burst, const py::dict& ramp,
                                 std::shared_ptr<TlsClient> tls, const GivenChats& chats) {
  LoadOptions options;
  options.protocol = ToProtocol(protocol);
  if (events != "generate" && events != "openai") throw py::value_error("events must be generate or openai");
  options.events = events == "openai" ? EventGrammar::kOpenAi : EventGrammar::kGenerate;
  options.streamed = streamed;
  options.tls = std::move(tls);
  options.sequences = ToPlan(sequences, seed);
  options.ramp = ToRamp(ramp);
  options.chats = ToChats(chats);
  options.expected = std::move(expected);
  options.address = std::move(address);
  options.port = port;
  options.bodies = std::move(bodies);
  options.headers = std::move(headers);
  options.threads = threads;
  options.connections = connections;
  options.streams = streams;
  options.concurrency = concurrency;
  options.max_requests = max_requests;
  options.record = record;
  if (concurrency == 0) {
    auto schedule = std::make_shared<Schedule>();
    schedule->kind = poisson ? Schedule::Kind::kPoisson : Schedule::Kind::kConstant;
    if (!intervals_ns.empty()) schedule->kind = Schedule::Kind::kIntervals;
    if (!times_ns.empty()) schedule->kind = Schedule::Kind::kOnce;
    schedule->rate = rate;
    schedule->seed = seed;
    schedule->burst = burst;
    schedule->times = std::move(times_ns.empty() ? intervals_ns : times_ns);
    options.schedule = std::move(schedule);
  }
  const Status status = LoadRun::Check(options);
  if (!status.ok()) throw py::value_error(status.message());
  return std::make_unique<LoadRun>(std::move(options));
}

// The server and the thread that it runs on.
class FakeServerHandle {
 public:
  explicit FakeServerHandle(FakeServerOptions options)
      : server_(std::move(options), clock_), thread_([this] { server_.Run(); }) {}
  ~FakeServerHandle() { Stop(); }
  FakeServerHandle(const FakeServerHandle&) = delete;
  FakeServerHandle& operator=(const FakeServerHandle&) = delete;

  uint16_t port() const { return server_.port(); }
  FakeServerReport Report() const { return server_.Report(); }
  void Stop() {
    server_.Stop();
    if (thread_.joinable()) thread_.join();
  }

 private:
  const SystemClock clock_;
  FakeServer server_;
  std::thread thread_;
};

std::unique_ptr<FakeServerHandle> MakeServer(std::vector<TimeNs> delays_ns,
                                             std::vector<std::pair<TimeNs, TimeNs>> stalls_ns, uint64_t error_every,
                                             const std::map<std::string, std::string>& answers, std::string http_answer,
                                             std::string grpc_answer, std::string event, uint32_t responses,
                                             TimeNs gap_ns) {
  if (delays_ns.empty()) throw py::value_error("a server needs a delay");
  if (responses == 0) throw py::value_error("an answer needs a response");
  FakeServerOptions options;
  options.delays = std::move(delays_ns);
  options.stalls = std::move(stalls_ns);
  options.error_every = error_every;
  options.answers.insert(answers.begin(), answers.end());
  options.http_answer = std::move(http_answer);
  options.grpc_answer = std::move(grpc_answer);
  options.event = std::move(event);
  options.responses = responses;
  options.gap = gap_ns;
  return std::make_unique<FakeServerHandle>(std::move(options));
}

py::tuple Call(const std::string& address, uint16_t port, const ClientHeaders& headers, const std::string& message,
               double timeout_s, const TlsClient* tls) {
  const StatusOr<std::string> answer = [&] {
    ReleaseGil release;
    return CallGrpc(address, port, headers, message, timeout_s, tls);
  }();
  if (!answer.ok()) return py::make_tuple(ToText(answer.status().message()), py::bytes());
  return py::make_tuple(py::str(), ToBytes(answer.value()));
}

std::shared_ptr<TlsClient> MakeTls(const std::string& host, const std::string& alpn,
                                   const std::string& root_certificates, const std::string& certificate,
                                   const std::string& private_key, bool verifies_peer, bool verifies_host) {
  StatusOr<std::shared_ptr<TlsClient>> made =
      TlsClient::Make({host, alpn, root_certificates, certificate, private_key, verifies_peer, verifies_host});
  if (made.ok()) return std::move(made).value();
  if (made.status().code() == Code::kInvalidArg) throw py::value_error(made.status().message());
  throw std::runtime_error(made.status().message());
}

void BindTls(py::module_& module) {
  py::class_<TlsClient, std::shared_ptr<TlsClient>>(module, "TlsClient", py::is_final())
      .def(py::init(&MakeTls), py::kw_only(), py::arg("host"), py::arg("alpn"), py::arg("root_certificates") = "",
           py::arg("certificate") = "", py::arg("private_key") = "", py::arg("verifies_peer") = true,
           py::arg("verifies_host") = true);
}

void BindHistogram(py::module_& module) {
  py::class_<LatencyHistogram>(module, "LatencyHistogram", py::is_final())
      .def(py::init<>())
      .def("record", &LatencyHistogram::Record, py::arg("duration_ns"), py::arg("count") = uint64_t{1})
      .def("merge", &LatencyHistogram::Merge, py::arg("other"))
      .def("percentile", &LatencyHistogram::Percentile, py::arg("percent"))
      .def("corrected", &LatencyHistogram::Corrected, py::arg("interval_ns"))
      .def("ranges", &LatencyHistogram::Ranges)
      .def_property_readonly("count", &LatencyHistogram::count)
      .def_property_readonly("min_ns", &LatencyHistogram::min)
      .def_property_readonly("max_ns", &LatencyHistogram::max)
      .def_property_readonly("mean_ns", &LatencyHistogram::mean)
      .def_property_readonly("deviation_ns", &LatencyHistogram::deviation);
}

void BindWindow(py::module_& module) {
  py::class_<ResponseTimes>(module, "ResponseTimes", py::is_final())
      .def_readonly("responses", &ResponseTimes::responses)
      .def_readonly("tokens", &ResponseTimes::tokens)
      .def_readonly("first", &ResponseTimes::first)
      .def_readonly("gap", &ResponseTimes::gap)
      .def_readonly("token", &ResponseTimes::token);
  py::class_<LoadWindow>(module, "LoadWindow", py::is_final())
      .def(py::init<>())
      .def(
          "merge",
          [](LoadWindow& window, const LoadWindow& other) {
            window.Merge(other);
            window.started = window.started == 0 ? other.started : std::min(window.started, other.started);
            window.ended = std::max(window.ended, other.ended);
          },
          py::arg("other"))
      .def_readonly("started_ns", &LoadWindow::started)
      .def_readonly("ended_ns", &LoadWindow::ended)
      .def_readonly("latency", &LoadWindow::latency)
      .def_readonly("send_delay", &LoadWindow::send_delay)
      .def_property_readonly("errors", &Errors)
      .def_readonly("failed", &LoadWindow::failed)
      .def_readonly("connections_opened", &LoadWindow::connections_opened)
      .def_readonly("bytes_sent", &LoadWindow::bytes_sent)
      .def_readonly("bytes_received", &LoadWindow::bytes_received)
      .def_readonly("send_ns", &LoadWindow::send_ns)
      .def_readonly("receive_ns", &LoadWindow::receive_ns)
      .def_readonly("cpu_ns", &LoadWindow::cpu_ns)
      .def_readonly("unanswered", &LoadWindow::unanswered)
      .def_readonly("overdue", &LoadWindow::overdue)
      .def_readonly("oldest_ns", &LoadWindow::oldest_ns)
      .def_readonly("streamed", &LoadWindow::streamed)
      .def_property_readonly("records", &Records)
      .def_property_readonly("response_records", [](const LoadWindow& w) { return ToBytes(w.response_records); })
      .def_property_readonly("sequence_records", [](const LoadWindow& w) { return ToBytes(w.sequence_records); });
}

void BindRun(py::module_& module) {
  using Release = py::call_guard<ReleaseGil>;
  py::class_<LoadRun>(module, "LoadRun", py::is_final())
      .def(py::init(&MakeRun), py::kw_only(), py::arg("protocol"), py::arg("address"), py::arg("port"),
           py::arg("bodies"), py::arg("headers") = ClientHeaders(), py::arg("threads") = 1, py::arg("connections") = 1,
           py::arg("streams") = 256, py::arg("concurrency") = 0, py::arg("rate") = 0.0, py::arg("poisson") = false,
           py::arg("seed") = 0, py::arg("intervals_ns") = std::vector<TimeNs>(),
           py::arg("times_ns") = std::vector<TimeNs>(), py::arg("max_requests") = 0, py::arg("record") = false,
           py::arg("streamed") = false, py::arg("events") = "generate", py::arg("sequences") = py::dict(),
           py::arg("expected") = std::vector<ExpectedOutputs>(), py::arg("burst") = 1, py::arg("ramp") = py::dict(),
           py::arg("tls") = py::none(), py::arg("chats") = GivenChats())
      .def("start", &LoadRun::Start, Release())
      .def("wait", &LoadRun::Wait, py::arg("seconds"), py::arg("requests") = 0, Release())
      .def("take", &LoadRun::Take, Release())
      .def("stop", &LoadRun::Stop, py::arg("drain_seconds") = 0.0, Release())
      .def_property_readonly("responses", &LoadRun::responses)
      .def_property_readonly("in_flight", &LoadRun::in_flight)
      .def_property_readonly("refused", &LoadRun::refused)
      .def_property_readonly("exhausted", &LoadRun::exhausted);
}

void BindServer(py::module_& module) {
  py::class_<FakeServerReport>(module, "FakeServerReport", py::is_final())
      .def_readonly("inferences", &FakeServerReport::inferences)
      .def_readonly("errors", &FakeServerReport::errors)
      .def_readonly("injected", &FakeServerReport::injected)
      .def_readonly("served", &FakeServerReport::served)
      .def_readonly("responses", &FakeServerReport::responses)
      .def_readonly("first", &FakeServerReport::first)
      .def_readonly("gap", &FakeServerReport::gap);
  py::class_<FakeServerHandle>(module, "FakeServerCore", py::is_final())
      .def(py::init(&MakeServer), py::kw_only(), py::arg("delays_ns"),
           py::arg("stalls_ns") = std::vector<std::pair<TimeNs, TimeNs>>(), py::arg("error_every") = 0,
           py::arg("answers") = std::map<std::string, std::string>(), py::arg("http_answer"), py::arg("grpc_answer"),
           py::arg("event") = "{}", py::arg("responses") = 1, py::arg("gap_ns") = 0)
      .def_property_readonly("port", &FakeServerHandle::port)
      .def("report", &FakeServerHandle::Report)
      .def("stop", &FakeServerHandle::Stop, py::call_guard<ReleaseGil>());
}

}  // namespace

void BindLoad(py::module_& module) {
  BindHistogram(module);
  BindTls(module);
  BindWindow(module);
  BindRun(module);
  BindServer(module);
  module.def("load_sequence_fields", [] { return kSequenceFields; });
  module.def("grpc_call", &Call, py::arg("address"), py::arg("port"), py::arg("headers"), py::arg("message"),
             py::arg("timeout_s"), py::arg("tls") = py::none());
}

}  // namespace pyinfer
