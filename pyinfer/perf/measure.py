# SPDX-License-Identifier: Apache-2.0
"""Loads one server at one level after the other, window by window, until it is stable."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyinfer._core import LoadRun, LoadWindow
from pyinfer.errors import InvalidArgument, Unavailable
from pyinfer.perf import shared_memory
from pyinfer.perf.chats import Chats, chat_data
from pyinfer.perf.composing import ComposingModels, Readings
from pyinfer.perf.encode import generate_request, grpc_request, http_request
from pyinfer.perf.metrics import MetricsReader
from pyinfer.perf.openai import OpenAiTarget, openai_data
from pyinfer.perf.options import PerfOptions, Range
from pyinfer.perf.process import ProcessUse, read_process
from pyinfer.perf.results import STABLE_WINDOWS, Measured, Window, is_stable, merged, warnings_of
from pyinfer.perf.shared_memory import Place, SharedRegions
from pyinfer.perf.target import GrpcTarget, HttpTarget, ModelInfo, ServerTimes, open_target
from pyinfer.perf.tensors import RequestData, read_data

__all__ = ["Level", "Session"]

#: seconds that a wait may be blind to Ctrl-C
_SLICE_S = 0.1
_DRAIN_S = 5.0
#: requests of a sequence, where neither options nor data say how many
_SEQUENCE_LENGTH = 20
#: without an answer a measurement of a number of requests is given up; sooner where no connection comes about and
#: nothing is under way, at once where there never was an answer
_IDLE_S = 60.0
_LOST_S = 5.0
_NEVER_S = 1.0
#: of windows that hold a number of requests, which are more then
_SHORTEST_S = 1.0
#: of gRPC: so many requests share a connection in perf_analyzer
_SHARED = 6
_OPEN_CONNECTIONS = {"grpc": 8, "http": 64}


@dataclass
class Level:
    """What was met at one level, as far as it came: also what is left of an interrupted one."""

    kind: str
    value: float
    measured: Measured | None = None
    warnings: list[str] = field(default_factory=list)
    #: all windows, and with ``--profile-export-file`` their requests
    windows: list[Window] = field(default_factory=list)
    records: bytes = b""
    response_records: bytes = b""
    sequence_records: bytes = b""

    def keep_records(self, load: LoadWindow) -> None:
        """Add those of ``load`` behind the others."""
        self.records += load.records
        self.response_records += load.response_records
        self.sequence_records += load.sequence_records

    def meets(self, options: PerfOptions) -> bool:
        """Whether its latency is within ``--latency-threshold`` (0: always)."""
        if self.measured is None or self.measured.window.load.latency.count == 0:
            return False
        limit_us = options.latency_threshold_ms * 1e3
        return not limit_us or self.measured.window.latency_us(options.percentile) <= limit_us


class Session:
    """A model on a server, its requests encoded. Asks the server for what it needs; raises PyinferError."""

    def __init__(self, options: PerfOptions, say: Callable[[str], None] = lambda _: None) -> None:
        self.options, self._say = options, say
        self.target = _open_target(options)
        self.info = self.target.info()
        _refuse(self.info, options)
        if options.server_pid:
            read_process(options.server_pid)
        self._regions: SharedRegions | None = None
        self._metrics: MetricsReader | None = None
        self.chats: Chats | None = None
        if isinstance(self.target, OpenAiTarget) and options.session_concurrency:
            self.chats = chat_data(self.target, options)
            self.bodies = self.chats.bodies
            self.data = RequestData([], [], [(0, len(self.bodies))], True, [])
        elif isinstance(self.target, OpenAiTarget):
            self.data, self.bodies = openai_data(self.target, options)
        else:
            self.data = read_data(self.info, options)
            _refuse_validation(self.data, self.info, options)
            self.bodies = self._encode_all()
        self.headers: list[tuple[str, str]] = []
        if isinstance(self.target, GrpcTarget):
            method = "ModelStreamInfer" if options.streaming else "ModelInfer"
            coding = [] if options.grpc_compression == "none" else [("grpc-encoding", options.grpc_compression)]
            self.headers = self.target.headers(method, [*coding, *options.headers])
        self.intervals = _read_intervals(options.intervals_file)
        self._composing = ComposingModels(self.info, options.composing, self._open_beside)
        self._composing_before: Readings = {}
        if options.trace:
            self.target.set_trace(options.trace)

    def _open_beside(self, name: str, version: str) -> HttpTarget | GrpcTarget:
        return open_target(self.options.protocol, self.options.url, name, version, self.options.tls)

    def _encode_all(self) -> list[bytes]:
        options, info, requests = self.options, self.info, self.data.requests
        shared_memory.check(info, options, validates=bool(self.data.expected))
        if isinstance(self.target, HttpTarget) and options.streaming:
            return [generate_request(self.target, options, one) for one in requests]
        places: list[list[Place]] = [[] for _ in requests]
        outputs: dict[str, Place] = {}
        if options.shared_memory != "none":
            self._regions = SharedRegions(self.target, info, options, requests)
            places, outputs = self._regions.inputs, self._regions.outputs
        both = zip(requests, places, strict=True)
        if isinstance(self.target, GrpcTarget):
            target = self.target
            return [grpc_request(target, info, options, one, place, outputs) for one, place in both]
        return [http_request(self.target, info, options, one, place, outputs) for one, place in both]

    def measure(self, level: Level) -> None:
        """Fill ``level``; it keeps what there is when this ends early. Raises Unavailable where nothing succeeds."""
        options = self.options
        if options.warmup_request_count:
            self._warm_up(level)
        before, self._composing_before = self.target.statistics(), self._composing.read()
        requests = options.request_count or len(self.data.times_ns) or (int(level.value) if options.periodic else 0)
        requests = requests or (len(self.bodies) if self.chats else 0)
        with self._collect() as self._metrics:
            self._load(level, before, requests)

    def _collect(self) -> AbstractContextManager[MetricsReader | None]:
        if not self.options.collect_metrics:
            return nullcontext()
        return MetricsReader(self.options.metrics_url or "localhost:8002/metrics", self.options.metrics_interval_ms)

    def _load(self, level: Level, before: ServerTimes | None, requests: int) -> None:
        options = self.options
        run = self._start(level, requests)
        try:
            if requests:
                self._window(run, level, before, math.inf, requests)
            else:
                run.take()  # the load begins when there are connections
                self._windows(run, level, before)
        finally:
            last = level.windows[-STABLE_WINDOWS:]
            rest = run.stop(_DRAIN_S if last else 0.0)
            level.keep_records(rest)
            if last:
                stable = bool(requests) or is_stable(level.windows, options.stability_percent, options.percentile)
                bounds = [level.windows[0].load.started_ns, *(each.load.ended_ns for each in level.windows)]
                level.measured = Measured(level.kind, level.value, merged(last), stable, bounds, last)
                level.warnings = warnings_of(level.measured, last[-1].load)
                left = requests - sum(one.load.latency.count + one.load.failed for one in last) if self.chats else 0
                if left > 0:
                    level.warnings.append(f"{left} turns were not sent: their sessions had failed, or were interrupted")

    def _warm_up(self, level: Level) -> None:
        run = self._start(level, self.options.warmup_request_count)
        given_up = False
        try:
            given_up = self._wait(run, math.inf, self.options.warmup_request_count)
        finally:
            rest = run.stop(0.0 if given_up else _DRAIN_S)
        if given_up:
            raise Unavailable(f"the warm-up is given up: {_reason(rest)}")

    def _start(self, level: Level, requests: int) -> LoadRun:
        options = self.options
        closed = level.kind == "Concurrency"
        share = 1 if options.protocol == "http" else _SHARED
        connections = math.ceil(level.value / share) if closed else _OPEN_CONNECTIONS[options.protocol]
        if options.connections and not (closed and options.protocol == "http"):
            connections = options.connections
        connections = max(connections, options.threads)
        if closed:
            connections = min(connections, int(level.value))
        live = int(level.value) if closed else options.sequences
        threads = min(options.threads, connections, *([live] if self.info.has_sequences else []))
        load = LoadRun(
            protocol="grpc_stream" if options.streaming and options.protocol == "grpc" else options.protocol,
            streamed=options.streaming,
            events="openai" if options.service_kind == "openai" else "generate",
            address=self.target.address,
            port=self.target.port,
            tls=self.target.tls.client if self.target.tls else None,
            bodies=self.bodies,
            headers=self.headers,
            threads=threads,
            connections=connections,
            concurrency=int(level.value) if closed else 0,
            rate=level.value if not closed else 0.0,
            poisson=options.distribution == "poisson",
            burst=options.burst,
            seed=options.seed,
            intervals_ns=self.intervals,
            times_ns=self.data.times_ns,
            sequences=self._sequences(live) if self.info.has_sequences else {},
            expected=[list(one.items()) for one in self.data.expected],
            max_requests=0 if self.chats else requests,
            chats=self.chats.turns if self.chats else [],
            ramp=_ramp(options.periodic, options.request_period),
            record=bool(options.export_file or options.periodic),
        )
        load.start()
        return load

    def _sequences(self, live: int) -> dict[str, Any]:
        options = self.options
        first, end = options.sequence_ids
        if end and end - first < live:
            raise InvalidArgument(f"--sequence-id-range has {end - first} ids for {live} sequences at a time")
        return {
            "live": live,
            "length": options.sequence_length or (0 if self.data.has_steps else _SEQUENCE_LENGTH),
            "variation": options.sequence_variation / 100,
            "first_id": first,
            "end_id": end,
            "serial": options.serial_sequences,
            "data": self.data.steps,
        }

    def _wait(self, run: LoadRun, seconds: float, requests: int = 0) -> bool:
        """In slices, so that Ctrl-C is seen. Ends early where the load has nothing left; whether that was given up,
        because no answer will come any more.
        """
        ended, waited, idle, responses, refused = 0, 0.0, 0.0, run.responses, run.refused
        while waited < seconds and (not requests or ended < requests) and not run.exhausted:
            part = min(_SLICE_S, seconds - waited)
            now = run.wait(part, max(0, requests - ended) if requests else 0)
            moved = now or run.responses != responses
            ended, waited, idle, responses = ended + now, waited + part, 0.0 if moved else idle + part, run.responses
            if moved:
                refused = run.refused
            if requests and idle > self._patience(run.refused > refused and run.in_flight == 0, ended):
                return True
        return False

    def _patience(self, is_refused: bool, ended: int) -> float:
        """Seconds without an answer. ``is_refused``: no connection comes about, and no answer is waited for."""
        if is_refused:
            return _LOST_S if ended else _NEVER_S
        return _IDLE_S + (self.chats.longest_delay_s if self.chats else 0.0)

    def _window(self, run: LoadRun, level: Level, before: ServerTimes | None, seconds: float, requests: int) -> Window:
        pid = self.options.server_pid
        process = read_process(pid) if pid else None
        given_up, begun = False, time.monotonic()
        try:
            given_up = self._wait(run, seconds, requests)
            if self.options.count_windows and not self.options.request_count and not given_up:
                self._wait(run, begun + _SHORTEST_S - time.monotonic())
        finally:
            load = run.take()
            use = _used(pid, process)
            batch = self.options.batch_size if self.info.max_batch_size else 1
            metrics = self._metrics.take() if self._metrics else {}
            composing = (self._composing_before, self._composing.read())
            self._composing_before = composing[1]
            level.windows.append(Window(load, before, self.target.statistics(), use, batch, metrics, composing))
            level.keep_records(load)
        window = level.windows[-1]
        if load.latency.count == 0 and load.failed:
            raise Unavailable(f"no request succeeded: {_reason(load)}")
        if given_up:
            raise Unavailable(f"the load is given up: {_reason(load)}")
        return window

    def _windows(self, run: LoadRun, level: Level, before: ServerTimes | None) -> None:
        options = self.options
        for number in range(options.max_trials):
            if options.count_windows:
                window = self._window(run, level, before, math.inf, options.window_requests)
            else:
                window = self._window(run, level, before, options.interval_ms / 1e3, 0)
            before = window.after
            latency = window.latency_us(options.percentile)
            self._say(f"  window {number + 1}: {window.throughput:.1f} infer/s, latency {latency:.0f} us")
            if is_stable(level.windows, options.stability_percent, options.percentile):
                return
            # past the limit already: it will not be met by measuring longer
            too_slow = options.latency_threshold_ms and number + 1 >= STABLE_WINDOWS
            last = level.windows[-STABLE_WINDOWS:]
            if (
                too_slow
                and min(each.latency_us(options.percentile) for each in last) > options.latency_threshold_ms * 1e3
            ):
                return


def _reason(load: LoadWindow) -> str:
    """Why answers do not come."""
    return max(load.errors, key=lambda each: load.errors[each], default="the server does not answer")


def _used(pid: int, before: ProcessUse | None) -> ProcessUse | None:
    """Since ``before``; None where the process is gone, which its clients have noticed as well."""
    if before is None:
        return None
    try:
        return read_process(pid).since(before)
    except InvalidArgument:
        return None


def _open_target(options: PerfOptions) -> HttpTarget | GrpcTarget:
    kind = OpenAiTarget if options.service_kind == "openai" else HttpTarget
    return open_target(options.protocol, options.url, options.model, options.version, options.tls, kind)


def _refuse(info: ModelInfo, options: PerfOptions) -> None:
    if info.has_sequences and options.streaming and options.protocol == "http":
        raise InvalidArgument(
            f"model '{options.model}' takes sequences, which generate_stream does not carry; use -i grpc"
        )
    if info.has_sequences and options.grpc_compression != "none":
        raise InvalidArgument(
            f"model '{options.model}' takes sequences, whose requests can not be compressed beforehand"
        )
    if info.has_sequences and options.fixed_schedule:
        raise InvalidArgument(f"model '{options.model}' takes sequences: --fixed-schedule is for requests on their own")
    if info.has_sequences and options.periodic:
        raise InvalidArgument(
            f"model '{options.model}' takes sequences: --periodic-concurrency-range is for requests on their own"
        )
    if info.is_decoupled and not options.streaming:
        raise InvalidArgument(
            f"model '{options.model}' is decoupled: only streams carry its responses; add --streaming"
        )


def _refuse_validation(data: RequestData, info: ModelInfo, options: PerfOptions) -> None:
    if not data.expected:
        return
    if info.is_decoupled or (options.streaming and options.protocol == "http"):
        raise InvalidArgument("validation_data is for answers of one response, by infer or on a gRPC stream")
    if options.protocol == "http" and options.output_format == "json":
        raise InvalidArgument("validation_data is compared byte by byte: it needs --output-tensor-format=binary")


def _ramp(spread: Range | None, period: int) -> dict[str, int]:
    if spread is None:
        return {}
    return {"start": int(spread.start), "step": int(spread.step), "end": int(spread.end), "period": period}


def _read_intervals(name: str) -> list[int]:
    """Nanoseconds, out of a file with microseconds; empty without a name."""
    if not name:
        return []
    try:
        lines = Path(name).read_text().split()
        intervals = [int(line) * 1000 for line in lines]
    except OSError as error:
        raise InvalidArgument(f"--request-intervals={name}: {error.strerror}") from None
    except ValueError as error:
        raise InvalidArgument(
            f"--request-intervals={name}: each line is a whole number of microseconds: {error}"
        ) from None
    if not intervals or min(intervals) < 0 or sum(intervals) == 0:
        raise InvalidArgument(f"--request-intervals={name}: there are no intervals above 0")
    return intervals
