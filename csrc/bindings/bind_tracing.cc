// SPDX-License-Identifier: Apache-2.0
// bind_tracing.cc - settings of the tracer, the log of traces, and traces as an exporter in Python sees them.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>

#include "bindings/gil.h"
#include "bindings/register.h"
#include "engine/tracer.h"
#include "telemetry/trace_events.h"
#include "telemetry/trace_log.h"

namespace py = pybind11;

namespace pyinfer {
namespace {

template <size_t N>
py::bytes ToBytes(const std::array<uint8_t, N>& id) {
  return py::bytes(reinterpret_cast<const char*>(id.data()), id.size());
}

std::vector<TraceRecord> Take(Tracer& tracer, double timeout_s) {
  const auto timeout = std::chrono::duration<double>(std::min(timeout_s, 1e6));
  ReleaseGil release;
  std::vector<TraceRecord> records;
  for (CollectedTrace& trace : tracer.queue()->Take(std::chrono::duration_cast<std::chrono::milliseconds>(timeout))) {
    records.push_back(std::move(trace.record));
  }
  return records;
}

py::list Events(const TraceRecord& record, TraceStage stage) {
  py::list events;
  if ((record.levels & kTraceTimestamps) == 0) return events;
  for (const TraceEvent& event : TraceEvents(record)) {
    if (event.stage == stage) events.append(py::make_tuple(event.name, event.ns));
  }
  return events;
}

// A model may have made the text: it need not be UTF-8.
py::object ErrorText(const TraceRecord& record) {
  if (record.status.ok()) return py::none();
  const std::string& text = record.status.message();
  const auto size = static_cast<Py_ssize_t>(text.size());
  return py::reinterpret_steal<py::object>(PyUnicode_DecodeUTF8(text.data(), size, "replace"));
}

TimeNs EndOf(const TraceRecord& record) {
  TimeNs end = record.timeline.answered;
  for (const TracedSend& send : record.sends) end = std::max(end, send.ended);
  return end;
}

// The log and what it reports to. The report is called on the log's thread.
class LogHandle {
 public:
  LogHandle(const std::shared_ptr<Tracer>& tracer, std::string path, py::function report)
      : report_(std::move(report)), log_(tracer->queue(), std::move(path), [this](const std::string& text) {
          AcquireGil acquire;
          try {
            report_(text);
          } catch (py::error_already_set& error) {
            error.discard_as_unraisable("the report of a trace log");
          }
        }) {}
  ~LogHandle() { Close(); }

  void Close() {
    ReleaseGil release;
    log_.Close();
  }

 private:
  const py::function report_;
  TraceLog log_;
};

void BindRecord(py::module_& module) {
  py::class_<TraceRecord>(module, "TraceRecord", py::is_final())
      .def_readonly("id", &TraceRecord::id)
      .def_readonly("model_name", &TraceRecord::model_name)
      .def_readonly("model_version", &TraceRecord::model_version)
      .def_readonly("request_id", &TraceRecord::request_id)
      .def_property_readonly("trace_id", [](const TraceRecord& record) { return ToBytes(record.spans.trace); })
      .def_property_readonly("parent_span_id", [](const TraceRecord& record) { return ToBytes(record.spans.parent); })
      .def_property_readonly("span_ids",
                             [](const TraceRecord& record) {
                               return py::make_tuple(ToBytes(record.spans.root), ToBytes(record.spans.model),
                                                     ToBytes(record.spans.compute));
                             })
      .def_property_readonly("trace_state", [](const TraceRecord& record) { return py::bytes(record.spans.state); })
      .def_property_readonly("begin_ns",
                             [](const TraceRecord& record) {
                               const Timeline& timeline = record.timeline;
                               return timeline.receiving != 0 ? timeline.receiving : timeline.started;
                             })
      .def_property_readonly("end_ns", &EndOf)
      .def_property_readonly("error", &ErrorText)
      .def_property_readonly("transport_events",
                             [](const TraceRecord& record) { return Events(record, TraceStage::kTransport); })
      .def_property_readonly("request_events",
                             [](const TraceRecord& record) { return Events(record, TraceStage::kRequest); })
      .def_property_readonly("compute_events",
                             [](const TraceRecord& record) { return Events(record, TraceStage::kCompute); });
}

}  // namespace

void BindTracing(py::module_& module) {
  BindRecord(module);
  py::class_<Tracer, std::shared_ptr<Tracer>>(module, "Tracer", py::is_final())
      .def(
          "set",
          [](Tracer& tracer, const std::string& model, bool timestamps, bool tensors, uint32_t rate, int32_t count,
             uint32_t log_frequency) {
            const uint32_t levels = (timestamps ? kTraceTimestamps : 0) | (tensors ? kTraceTensors : 0);
            tracer.Set(model, {levels, rate, count, log_frequency});
          },
          py::arg("model"), py::kw_only(), py::arg("timestamps") = false, py::arg("tensors") = false,
          py::arg("rate") = uint32_t{1000}, py::arg("count") = int32_t{-1}, py::arg("log_frequency") = uint32_t{0})
      .def(
          "clear", [](Tracer& tracer, const std::string& model) { tracer.Clear(model); }, py::arg("model"))
      .def(
          "count_left", [](const Tracer& tracer, const std::string& model) { return tracer.Get(model).count; },
          py::arg("model"))
      .def("enable_spans", &Tracer::EnableSpans)
      .def("take", &Take, py::arg("timeout_s"))
      .def("close", [](const Tracer& tracer) { tracer.queue()->Close(); })
      .def("counts", [](const Tracer& tracer) {
        const TraceQueue::Counts counts = tracer.queue()->counts();
        return py::make_tuple(counts.collected, counts.dropped);
      });

  py::class_<LogHandle>(module, "TraceLog", py::is_final())
      .def(py::init<const std::shared_ptr<Tracer>&, std::string, py::function>(), py::arg("tracer"), py::arg("path"),
           py::arg("report"))
      .def("close", &LogHandle::Close);
}

}  // namespace pyinfer
