# SPDX-License-Identifier: Apache-2.0
"""Triton's metric families over the core's counters, in Prometheus' text format.

A scrape reads the counters; between scrapes nothing happens, and no request pays for a metric. Which models there are
is handed in. Triton's counters have no ``_total`` suffix, which prometheus-client would add: see ``render``.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pyinfer.telemetry.cpu import CpuGauges

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

__all__ = ["CONTENT_TYPE", "FAILURE_REASONS", "CoreModel", "MetricModel", "Metrics"]

#: the media type of :meth:`Metrics.render`
CONTENT_TYPE = "text/plain; charset=utf-8"

#: the values of the label ``reason``; all four are always there
FAILURE_REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")

_COUNTERS: tuple[tuple[str, str], ...] = (
    (
        "nv_inference_request_success",
        "Number of successful inference requests, all batch sizes",
    ),
    (
        "nv_inference_count",
        "Number of inferences performed (does not include cached requests)",
    ),
    (
        "nv_inference_exec_count",
        "Number of model executions performed (does not include cached requests)",
    ),
    (
        "nv_inference_request_duration_us",
        "Cumulative inference request duration in microseconds (includes cached requests)",
    ),
    (
        "nv_inference_queue_duration_us",
        "Cumulative inference queuing duration in microseconds (includes cached requests)",
    ),
    (
        "nv_inference_compute_input_duration_us",
        "Cumulative compute input duration in microseconds (does not include cached requests)",
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Cumulative inference compute output duration in microseconds (does not include cached requests)",
    ),
)

_NOT_LABEL = re.compile(r"[^a-zA-Z0-9_]")
_ADDED_SUFFIX = re.compile(rb"^(# (?:HELP|TYPE) nv_\w+?)_total(?= )", re.MULTILINE)


class CoreModel(Protocol):
    """The counters of one model version; ``pyinfer._core.Model`` has them."""

    def counters(self) -> dict[str, int]: ...
    def failures(self) -> dict[str, int]: ...
    def pending(self) -> int: ...


@dataclass(frozen=True)
class MetricModel:
    """One model version and what labels it."""

    name: str
    version: int
    #: ``metric_tags`` of the configuration; each becomes a label ``_<tag>``
    tags: Mapping[str, str]
    core: CoreModel
    #: how long loading took, in seconds
    load_seconds: float = 0.0
    #: the repository that it comes from, with ``--model-namespacing``; otherwise empty, and no label
    namespace: str = ""

    def labels(self) -> dict[str, str]:
        """The labels of all samples of this version. Characters that a label name can not have become ``_``."""
        labels = {"model": self.name, "version": str(self.version)}
        if self.namespace:
            labels["namespace"] = self.namespace
        for tag, value in sorted(self.tags.items()):
            labels.setdefault("_" + _NOT_LABEL.sub("_", tag), value)
        return labels


@dataclass
class _Scrape:
    """The families of one scrape, in the order in which they are shown."""

    families: list[Metric] = field(default_factory=list)

    def family(self, name: str, help_text: str, kind: str) -> Metric:
        from prometheus_client.metrics_core import Metric

        family = Metric(name, help_text, kind)
        self.families.append(family)
        return family


class Metrics:
    """The metrics of one server; a collector in the sense of prometheus-client. Any thread."""

    def __init__(self, models: Callable[[], Iterable[MetricModel]], *, cpu: bool = True) -> None:
        """``models`` is called at each scrape. ``cpu`` False leaves the machine's gauges out."""
        self._models = models
        self._cpu = CpuGauges() if cpu else None
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """The families with their samples of now."""
        scrape = _Scrape()
        _add_models(scrape, list(self._models()))
        if self._cpu is not None:
            for name, help_text, value in self._cpu.read():
                scrape.family(name, help_text, "gauge").add_sample(name, {}, value)
        return iter(scrape.families)

    def render(self) -> bytes:
        """All families in the text format, UTF-8; its media type is ``CONTENT_TYPE``."""
        # Imported here: it costs a fifth of the start-up time, and a server that is not scraped never needs it.
        from prometheus_client.exposition import generate_latest
        from prometheus_client.registry import CollectorRegistry

        registry = CollectorRegistry(auto_describe=False)
        with self._lock:
            registry.register(self)
            text = generate_latest(registry)
        # The library names a counter's family with ``_total`` but leaves our samples' names as they are; HELP and TYPE
        # must name the same family as the samples do. A line break inside a help text is escaped, so ``^`` is exact.
        return _ADDED_SUFFIX.sub(rb"\1", text)


def _add_models(scrape: _Scrape, models: list[MetricModel]) -> None:
    read = [(model, model.labels(), model.core.counters()) for model in models]
    failure = scrape.family(
        "nv_inference_request_failure", "Number of failed inference requests, all batch sizes", "counter"
    )
    for model, labels, _ in read:
        failures = model.core.failures()
        for reason in FAILURE_REASONS:
            failure.add_sample(failure.name, {**labels, "reason": reason}, failures.get(reason, 0))
    for name, help_text in _COUNTERS:
        counter = scrape.family(name, help_text, "counter")
        for _, labels, counters in read:
            counter.add_sample(name, labels, counters[name.removeprefix("nv_inference_")])
    pending = scrape.family(
        "nv_inference_pending_request_count",
        "Instantaneous number of pending requests awaiting execution per-model.",
        "gauge",
    )
    loading = scrape.family("nv_model_load_duration_secs", "Model load time in seconds", "gauge")
    for model, labels, _ in read:
        pending.add_sample(pending.name, labels, model.core.pending())
        loading.add_sample(loading.name, labels, model.load_seconds)
