# SPDX-License-Identifier: Apache-2.0
"""Families, labels and values of a scrape; the text is read back with prometheus-client's own parser."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pyinfer.telemetry.metrics import FAILURE_REASONS, MetricModel, Metrics

COUNTERS = [
    "nv_inference_request_failure",
    "nv_inference_request_success",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
]
GAUGES = ["nv_inference_pending_request_count", "nv_model_load_duration_secs"]
CPU_GAUGES = ["nv_cpu_utilization", "nv_cpu_memory_total_bytes", "nv_cpu_memory_used_bytes"]
PHASES = ("queue", "compute_input", "compute_infer", "compute_output")


class Counters:
    """The counters of a model version, as the core hands them out."""

    def __init__(self, **ns: int) -> None:
        self._ns = ns

    def counters(self) -> dict[str, int]:
        phases = {"request": "success", **{phase: phase for phase in PHASES}}
        durations = {f"{name}_duration_us": self._ns.get(phase, 0) // 1000 for name, phase in phases.items()}
        return {"request_success": 7, "count": 24, "exec_count": 3, **durations}

    def failures(self) -> dict[str, int]:
        return {"REJECTED": 2, "OTHER": 5}

    def pending(self) -> int:
        return 11


def _models(*tags: Mapping[str, str], **ns: int) -> list[MetricModel]:
    return [MetricModel("m", version, tag, Counters(**ns), 0.25) for version, tag in enumerate(tags or ({},), start=1)]


def _samples(models: Iterable[MetricModel]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = Metrics(lambda: models, cpu=False).render().decode()
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            # the parser, too, adds the suffix to counters; the raw names have a test of their own
            key = (sample.name.removesuffix("_total"), frozenset(sample.labels.items()))
            assert key not in found, "the same sample twice"
            found[key] = sample.value
    return found


def _value(name: str, models: Iterable[MetricModel], **labels: str) -> float:
    wanted = {"model": "m", "version": "1", **labels}
    return _samples(models)[name, frozenset(wanted.items())]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nv_inference_request_success", 7),
        ("nv_inference_count", 24),
        ("nv_inference_exec_count", 3),
        ("nv_inference_request_duration_us", 5),
        ("nv_inference_queue_duration_us", 1),
        ("nv_inference_compute_input_duration_us", 0),
        ("nv_inference_compute_infer_duration_us", 123456789),
        ("nv_inference_compute_output_duration_us", 2),
        ("nv_inference_pending_request_count", 11),
        ("nv_model_load_duration_secs", 0.25),
    ],
)
def test_values_and_units(name: str, value: float) -> None:
    models = _models(success=5999, queue=1000, compute_input=999, compute_infer=123_456_789_000, compute_output=2001)
    assert _value(name, models) == value


def test_all_four_failure_reasons_are_always_there() -> None:
    values = [_value("nv_inference_request_failure", _models(), reason=reason) for reason in FAILURE_REASONS]
    assert values == [2, 0, 0, 5]


def test_families_are_there_before_any_model() -> None:
    lines = Metrics(list).render().decode().splitlines()
    for name in COUNTERS:
        assert f"# TYPE {name} counter" in lines
    for name in [*GAUGES, *CPU_GAUGES]:
        assert f"# TYPE {name} gauge" in lines
    for name in [*COUNTERS, *GAUGES, *CPU_GAUGES]:
        assert sum(line.startswith(f"# HELP {name} ") for line in lines) == 1
    assert len([line for line in lines if line.startswith("# TYPE")]) == len(COUNTERS + GAUGES + CPU_GAUGES)


def test_no_name_has_a_suffix_that_triton_lacks() -> None:
    text = Metrics(_models, cpu=False).render().decode()
    assert "_total" not in text
    names = {line.split("{")[0] for line in text.splitlines() if not line.startswith("#")}
    assert names == {*COUNTERS, *GAUGES}


def test_cpu_gauges_can_be_left_out() -> None:
    assert b"nv_cpu" not in Metrics(list, cpu=False).render()


def test_tags_become_labels() -> None:
    assert _value("nv_inference_count", _models({"team": "vision", "my-key": "x"}), _team="vision", _my_key="x") == 24


def test_tags_that_collide_leave_one_label() -> None:
    found = [
        dict(labels) for name, labels in _samples(_models({"a-b": "1", "a_b": "2"})) if name == "nv_inference_count"
    ]
    assert found == [{"model": "m", "version": "1", "_a_b": "1"}]


@given(name=st.text(st.characters(exclude_categories=["Cs"])), tag=st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=300)
def test_any_label_value_survives(name: str, tag: str) -> None:
    text = Metrics(lambda: [MetricModel(name, 1, {"tag": tag}, Counters())], cpu=False).render().decode()
    for line in text.split("\n"):
        if line.startswith("nv_inference_count{"):
            body = line.removeprefix("nv_inference_count{").rpartition("} ")[0]
            assert _unescape(body) == f'_tag="{tag}",model="{name}",version="1"'
            return
    raise AssertionError("the sample is missing or broken over lines")


def _unescape(text: str) -> str:
    rest = iter(text)
    return "".join(char if char != "\\" else {"n": "\n", '"': '"', "\\": "\\"}[next(rest)] for char in rest)


def test_scrapes_at_the_same_time() -> None:
    metrics = Metrics(_models)
    texts: list[bytes] = []
    threads = [threading.Thread(target=lambda: texts.append(metrics.render())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 8
    assert all(text.count(b"nv_inference_count{") == 1 for text in texts)
