# SPDX-License-Identifier: Apache-2.0
"""Trace mode opentelemetry: finished traces become spans and are sent by OTLP/HTTP, in batches.

Needs the packages of the extra ``otel``, which are imported when an exporter is made. The spans are those of Triton:
InferRequest, in it one with the name of the model, in it compute.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyinfer._core import Tracer, TraceRecord
from pyinfer.errors import InvalidArgument, Unsupported

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

__all__ = ["OtlpExporter", "exporter_settings"]

_log = logging.getLogger(__name__)

#: the name of the scope of all spans
_SCOPE = "triton-server"
_SERVICE = "triton-inference-server"
#: settings of the batches -> variable of the environment, default
_BATCHES = {
    "bsp_max_queue_size": ("OTEL_BSP_MAX_QUEUE_SIZE", "2048"),
    "bsp_schedule_delay": ("OTEL_BSP_SCHEDULE_DELAY", "5000"),
    "bsp_max_export_batch_size": ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512"),
}
#: how long the exporter waits for traces before it looks whether it is to end
_WAIT_S = 1.0
#: between two traces the other threads get the interpreter: the loop's thread is one of them
_PAUSE_S = 0.0001
_JOIN_S = 10.0

_Event = tuple[str, int]


def exporter_settings(given: Iterable[tuple[str, str]], environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """``given``, and those settings of the batches that are not given: from the environment, or Triton's defaults.

    Raises InvalidArgument where the environment has no whole number above 0.
    """
    settings = list(given)
    names = {name for name, _ in settings}
    for name, (variable, default) in _BATCHES.items():
        if name in names:
            continue
        text = environment.get(variable) or default
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
            raise InvalidArgument(f"Bad option: \"{variable}\": expected an integer >= 1, got '{text[:64]}'")
        settings.append((name, text))
    return tuple(settings)


class OtlpExporter:
    """Takes the traces of a tracer on a thread of its own."""

    def __init__(self, tracer: Tracer, settings: Sequence[tuple[str, str]]) -> None:
        """``settings`` as :func:`exporter_settings` makes them. Without ``url`` the environment names the receiver.

        Raises Unsupported where the packages are missing, InvalidArgument where settings contradict each other.
        """
        self._tracer = tracer
        self._closing = threading.Event()
        self._spans = _Spans(settings)
        tracer.enable_spans()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send what is finished and stop. Blocks until then, at most some 40 s. Idempotent."""
        self._tracer.close()
        self._closing.set()
        self._thread.join(_JOIN_S)
        self._spans.close()

    def _run(self) -> None:
        failed = 0
        while True:
            closing = self._closing.is_set()
            records = self._tracer.take(_WAIT_S)
            # a trace has the time of a clock that never jumps; spans have the time of day
            offset = time.time_ns() - time.monotonic_ns()
            for record in records:
                try:
                    self._spans.export(record, offset)
                except Exception:
                    failed += 1
                    if failed == 1:
                        _log.exception("a trace could not be exported; later ones that fail are not reported")
                time.sleep(_PAUSE_S)
            if closing and not records:
                return


def _require_packages() -> None:
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError as error:
        raise Unsupported(
            f"trace mode opentelemetry needs the packages of the extra 'otel' ({error.name} is missing): "
            "pip install 'pyinfer[otel]'"
        ) from None


class _Spans:
    """Makes spans of records. One thread."""

    def __init__(self, settings: Sequence[tuple[str, str]]) -> None:
        _require_packages()
        from opentelemetry import trace as api

        self._api = api
        self._provider, self._ids = _provider(settings)
        self._tracer = self._provider.get_tracer(_SCOPE)

    def close(self) -> None:
        self._provider.shutdown()

    def export(self, record: TraceRecord, offset: int) -> None:
        """``offset`` is what makes a time of the record a time of day."""
        root_id, model_id, compute_id = record.span_ids
        self._ids.trace_id = int.from_bytes(record.trace_id, "big")
        root = self._start("InferRequest", self._parent(record), root_id, record.begin_ns + offset)
        _add_events(root, record.transport_events, offset)
        if record.error is not None:
            root.set_status(self._api.Status(self._api.StatusCode.ERROR, record.error))
        events = record.request_events
        if events:
            context = self._api.set_span_in_context(root)
            model = self._start(record.model_name, context, model_id, events[0][1] + offset)
            model.set_attributes(_attributes(record))
            _add_events(model, events, offset)
            self._compute(record.compute_events, self._api.set_span_in_context(model), compute_id, offset)
            model.end(events[-1][1] + offset)
        root.end(record.end_ns + offset)

    def _compute(self, events: Sequence[_Event], context: Any, span_id: bytes, offset: int) -> None:
        if not events:
            return
        compute = self._start("compute", context, span_id, events[0][1] + offset)
        _add_events(compute, events, offset)
        compute.end(events[-1][1] + offset)

    def _start(self, name: str, context: Any, span_id: bytes, start_ns: int) -> Any:
        self._ids.span_id = int.from_bytes(span_id, "big")
        return self._tracer.start_span(name, context=context, kind=self._api.SpanKind.SERVER, start_time=start_ns)

    def _parent(self, record: TraceRecord) -> Any:
        """The context that the client's span makes; an empty one where there is none."""
        from opentelemetry.context import Context

        parent = int.from_bytes(record.parent_span_id, "big")
        if not parent:
            return Context()
        api = self._api
        state = api.TraceState.from_header([record.trace_state.decode("latin-1")])
        span = api.SpanContext(
            self._ids.trace_id,
            parent,
            is_remote=True,
            trace_flags=api.TraceFlags(api.TraceFlags.SAMPLED),
            trace_state=state,
        )
        return api.set_span_in_context(api.NonRecordingSpan(span), Context())


def _provider(settings: Sequence[tuple[str, str]]) -> tuple[TracerProvider, Any]:
    """A provider that sends spans as ``settings`` say, and the ids that its next span will have."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    class Ids(IdGenerator):
        """The core has chosen the ids: a model was told them before there was a span."""

        trace_id = 0
        span_id = 0

        def generate_trace_id(self) -> int:
            return self.trace_id

        def generate_span_id(self) -> int:
            return self.span_id

    values = dict(settings)
    resource = {"service.name": _SERVICE}
    for name, text in settings:
        if name == "resource":
            key, _, value = text.partition("=")
            resource[key] = value
    ids = Ids()
    provider = TracerProvider(
        sampler=ALWAYS_ON, resource=Resource.create(resource), id_generator=ids, shutdown_on_exit=False
    )
    try:
        processor = BatchSpanProcessor(
            OTLPSpanExporter(endpoint=values.get("url")),
            max_queue_size=int(values["bsp_max_queue_size"]),
            schedule_delay_millis=int(values["bsp_schedule_delay"]),
            max_export_batch_size=int(values["bsp_max_export_batch_size"]),
        )
    except ValueError as error:
        raise InvalidArgument(f"trace mode opentelemetry: {error}") from None
    provider.add_span_processor(processor)
    return provider, ids


def _attributes(record: TraceRecord) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "triton.model_name": record.model_name,
        "triton.model_version": record.model_version,
        "triton.trace_id": record.id,
        "triton.trace_parent_id": 0,
    }
    if record.request_id:
        attributes["triton.request_id"] = record.request_id
    return attributes


def _add_events(span: Any, events: Iterable[_Event], offset: int) -> None:
    for name, ns in events:
        span.add_event(name, timestamp=ns + offset)
