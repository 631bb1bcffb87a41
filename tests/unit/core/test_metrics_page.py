# SPDX-License-Identifier: Apache-2.0
"""The page of metrics as the core writes it: families, order, labels, values, and quantiles beside numpy's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pyinfer import _core
from unit.core.house import House, int_spec

COUNTERS = [
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_count",
    "nv_inference_exec_count",
]
LATENCIES = [
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
]
GAUGES = ["nv_inference_pending_request_count", "nv_model_load_duration_secs"]
SUMMARIES = [f"nv_inference_{phase}_summary_us" for phase in ("request", "queue", "compute_input", "compute_infer")]
SUMMARIES += ["nv_inference_compute_output_summary_us"]
OWN = ["pyinfer_request_duration_seconds", "pyinfer_queue_duration_seconds", "pyinfer_batch_size"]
QUANTILES = [(0.5, 0.05), (0.9, 0.01), (0.95, 0.001), (0.99, 0.001), (0.999, 0.001)]


def families(page: bytes) -> list[tuple[str, str]]:
    """(name, type) in order of the page, whose HELP and TYPE lines must be pairs."""
    lines = [line.split(" ", 3) for line in page.decode().splitlines() if line.startswith("#")]
    assert [line[1] for line in lines] == ["HELP", "TYPE"] * (len(lines) // 2)
    assert all(a[2] == b[2] for a, b in zip(lines[::2], lines[1::2], strict=True))
    return [(line[2], line[3]) for line in lines[1::2]]


def serve(house: House, *durations_us: int) -> None:
    """One request for each duration, all of which it waits in the queue."""
    for duration in durations_us:
        connection = house.connect()
        house.send_ints(connection, [1], 5)
        house.clock.advance_ns(duration * 1000)
        batch = house.instance.poll()
        assert batch is not None
        batch.respond_packed({"OUT": batch.packed()["IN"]})
        batch.finish()
        assert house.answer(connection).status == 200
        house.close(connection)


def with_statistics(**options: Any) -> House:
    return House(int_spec(statistics=_core.StatisticsOptions(**options)))


def test_families_are_in_tritons_order() -> None:
    house = House(
        int_spec(
            decoupled=True,
            statistics=_core.StatisticsOptions(summary_quantiles=QUANTILES, first_response_bounds_ms=[1.0]),
        )
    )
    house.instance  # noqa: B018 - keeps the house alive
    given = [("gauge", "a_gauge", "", [("", [], 1.0)]), ("counter", "a_counter", "", [("", [], 2.0)])]
    page = _core.metrics_page([_core.MetricModel(house.model)], given)
    assert families(page) == [
        *((name, "counter") for name in (*COUNTERS, *LATENCIES, "a_counter")),
        *((name, "gauge") for name in (*GAUGES, "a_gauge")),
        ("nv_inference_first_response_histogram_ms", "histogram"),
        *((name, "summary") for name in SUMMARIES),
    ]


def test_what_is_off_or_has_no_samples_is_not_there() -> None:
    assert _core.metrics_page([]) == b""
    assert _core.metrics_page([], [("gauge", "empty", "nothing", [])]) == b""
    house = House()
    page = _core.metrics_page([_core.MetricModel(house.model)], latency_counters=False)
    assert [name for name, _ in families(page)] == [*COUNTERS, *GAUGES]
    serve(house, 1)
    page = _core.metrics_page([_core.MetricModel(house.model)])
    assert [name for name, _ in families(page)] == [*COUNTERS, *LATENCIES, *GAUGES, *OWN]
    without = with_statistics(histograms=False)
    serve(without, 1)
    assert [name for name, _ in families(_core.metrics_page([_core.MetricModel(without.model)]))][-1] == GAUGES[-1]


def test_a_family_of_no_model() -> None:
    given = ("counter", "x_total", "what \\ it\nis", [("", [("a", "1"), ("b", '"')], 2.5), ("", [], 1e300)])
    assert _core.metrics_page([], [given]).decode().splitlines() == [
        "# HELP x_total what \\\\ it\\nis",
        "# TYPE x_total counter",
        'x_total{a="1",b="\\""} 2.5',
        "x_total 1e+300",
    ]
    with pytest.raises(ValueError, match="family 'x': the type must be .*, got 'summary'"):
        _core.metrics_page([], [("summary", "x", "", [])])


def labels_of(model: _core.MetricModel) -> str:
    [line] = [
        line for line in _core.metrics_page([model]).decode().split("\n") if line.startswith("nv_inference_count{")
    ]
    return line.removeprefix("nv_inference_count{").removesuffix("} 0")


def test_labels() -> None:
    house = House()
    assert labels_of(_core.MetricModel(house.model)) == 'model="m",version="1"'
    assert labels_of(_core.MetricModel(house.model, namespace="n")) == 'model="m",namespace="n",version="1"'
    on_device = _core.MetricModel(house.model, gpu_uuid="GPU-1")
    assert labels_of(on_device) == 'gpu_uuid="GPU-1",model="m",version="1"'
    tagged = _core.MetricModel(house.model, tags={"team": "vision", "my-key": "x", "1": "y", "ä": "z"})
    assert labels_of(tagged) == '_="z",_1="y",_my_key="x",_team="vision",model="m",version="1"'
    collide = _core.MetricModel(house.model, tags={"a_b": "2", "a-b": "1"})
    assert labels_of(collide) == '_a_b="1",model="m",version="1"'
    page = _core.metrics_page([_core.MetricModel(house.model, namespace="n", load_seconds=0.25)]).decode()
    assert 'nv_inference_request_failure{model="m",namespace="n",reason="OTHER",version="1"} 0' in page
    assert 'nv_model_load_duration_secs{model="m",namespace="n",version="1"} 0.25' in page


HOSTILE = st.text(st.characters(exclude_categories=["Cs"])) | st.text('\n\r"\\{}=,# \x00\u2028', min_size=1)


@given(name=HOSTILE, namespace=HOSTILE, tags=st.dictionaries(HOSTILE, HOSTILE, max_size=3))
@settings(max_examples=300)
def test_any_text_makes_a_valid_page(name: str, namespace: str, tags: dict[str, str]) -> None:
    spec = _core.ModelSpec(
        name=name, version=1, inputs=[], outputs=[], statistics=_core.StatisticsOptions(summary_quantiles=QUANTILES)
    )
    engine = _core.Engine()
    model = engine.create(spec)
    page = _core.metrics_page([_core.MetricModel(model, namespace=namespace, tags=tags)]).decode()
    model.stop()
    for line in page.removesuffix("\n").split("\n"):
        assert line.startswith(("# HELP nv_", "# TYPE nv_", "nv_")), "a line was broken"
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    assert len(samples) == 4 + 3 + 5 + 2 + 5 * (2 + len(QUANTILES))
    for sample in samples:
        assert (sample.labels["model"], sample.labels["version"]) == (name, "1")
        assert sample.labels.get("namespace", "") == namespace
        assert set(sample.labels.values()) >= set(tags.values()) or len(tags) > 1


def cumulated(house: House, name: str) -> dict[float, float]:
    return {float(bound): count for bound, count in house.metric(f"{name}_bucket").items()}


def test_our_histograms() -> None:
    house = House(int_spec(max_batch_size=8, dynamic_batching=True))
    for rows, wait_us in ((1, 10), (1, 11), (3, 999_999_999), (8, 20_000)):
        connection = house.connect()
        house.send_ints(connection, [rows, 1], 5)
        house.clock.advance_ns(wait_us * 1000)
        batch = house.instance.poll()
        assert batch is not None
        house.clock.advance_ns(1_000_000)
        batch.respond_packed({"OUT": batch.packed()["IN"]})
        batch.finish()
        assert house.answer(connection).status == 200
    queue = cumulated(house, "pyinfer_queue_duration_seconds")
    assert list(queue) == [
        *(float(f"{step}e{power}") for power in range(-5, 2) for step in (1, 2, 5)),
        float("inf"),
    ]
    assert [queue[bound] for bound in (1e-5, 2e-5, 1e-2, 2e-2, 50.0, float("inf"))] == [1, 2, 2, 3, 3, 4]
    assert house.metric("pyinfer_queue_duration_seconds_count") == {"": 4}
    assert house.metric("pyinfer_queue_duration_seconds_sum")[""] == pytest.approx(1000.02002)
    assert cumulated(house, "pyinfer_request_duration_seconds")[5e-4] == 0
    assert cumulated(house, "pyinfer_request_duration_seconds")[2e-3] == 2
    assert house.metric("pyinfer_request_duration_seconds_sum")[""] == pytest.approx(1000.02402)
    batches = cumulated(house, "pyinfer_batch_size")
    assert list(batches) == [*(2.0**power for power in range(11)), float("inf")]
    assert [batches[bound] for bound in (1, 2, 4, 8, float("inf"))] == [2, 2, 3, 4, 4]
    assert (house.metric("pyinfer_batch_size_sum"), house.metric("pyinfer_batch_size_count")) == ({"": 13}, {"": 4})


def test_failed_requests_are_in_no_histogram() -> None:
    house = House()
    connection, batch = house.ask([{"name": "IN", "datatype": "INT32", "shape": [1], "data": [5]}])
    batch.fail(0, "INTERNAL", "no")
    batch.finish()
    assert house.answer(connection).status == 500
    assert house.metric("pyinfer_request_duration_seconds_count") == {"": 0}
    assert house.metric("pyinfer_batch_size_count") == {"": 1}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"summary_quantiles": [(1.5, 0.1)]}, "a quantile must be in"),
        ({"summary_quantiles": [(float("nan"), 0.1)]}, "a quantile must be in"),
        ({"summary_quantiles": [(0.5, 0.0)]}, "the error of a quantile must be in"),
        ({"first_response_bounds_ms": [1, 1]}, "must be finite and ascend"),
        ({"first_response_bounds_ms": [float("inf")]}, "must be finite and ascend"),
    ],
)
def test_statistics_options_that_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _core.StatisticsOptions(**options)


def quantiles(house: House) -> dict[float, float]:
    found = house.metric("nv_inference_queue_summary_us")
    return {float(quantile): value for quantile, value in found.items()}


def test_a_summary_without_requests() -> None:
    house = with_statistics(summary_quantiles=QUANTILES)
    assert set(quantiles(house)) == {quantile for quantile, _ in QUANTILES}
    assert all(np.isnan(value) for value in quantiles(house).values())
    assert house.metric("nv_inference_queue_summary_us_count") == {"": 0}


def rank_error(values: Iterable[int], found: float, quantile: float) -> float:
    """How far the rank of ``found`` is from where the quantile is, as a share of all values."""
    ordered = np.sort(np.fromiter(values, np.int64))
    wanted = quantile * len(ordered)
    low, high = np.searchsorted(ordered, found, "left") + 1, np.searchsorted(ordered, found, "right")
    assert low <= high, "a quantile is one of the values"
    return float(max(0, low - wanted, wanted - high)) / len(ordered)


# 3,000 requests within the age of a window
@pytest.mark.parametrize("shape", ["ascending", "descending", "shuffled", "heavy tail", "two values"])
def test_quantiles_are_within_their_bounds(shape: str) -> None:
    random = np.random.default_rng(7)
    ascending = np.arange(3000) % 3000
    values = {
        "ascending": ascending,
        "descending": ascending[::-1],
        "shuffled": random.permutation(ascending),
        "heavy tail": random.pareto(1.2, 3000).astype(np.int64) + 1,
        "two values": random.choice([3, 4000], 3000, p=[0.9, 0.1]),
    }[shape]
    house = with_statistics(summary_quantiles=QUANTILES)
    serve(house, *(int(value) for value in values))
    for quantile, error in QUANTILES:
        found = quantiles(house)[quantile]
        # a bound below one rank can not be kept by any value
        assert rank_error(values, found, quantile) <= max(error, 1 / len(values)), (quantile, found)
    assert house.metric("nv_inference_queue_summary_us_sum") == {"": values.sum()}


def test_quantiles_are_of_the_last_minute_and_sums_of_all_time() -> None:
    house = with_statistics(summary_quantiles=[(0.0, 0.1), (1.0, 0.1)])
    serve(house, 7)
    house.clock.advance_ns(48_000_000_000 - 1_000_000)
    serve(house, 9)
    assert quantiles(house) == {0: 7, 1: 9}
    house.clock.advance_ns(12_002_000_000)
    assert quantiles(house) == {0: 9, 1: 9}
    house.clock.advance_ns(3_600_000_000_000)
    assert np.isnan(quantiles(house)[0])
    serve(house, 1)
    assert quantiles(house) == {0: 1, 1: 1}
    assert house.metric("nv_inference_queue_summary_us_count") == {"": 3}
    assert house.metric("nv_inference_queue_summary_us_sum") == {"": 17}


def test_ten_thousand_models() -> None:
    engine = _core.Engine()
    models = [engine.create(_core.ModelSpec(name=f"m{n}", version=1, inputs=[], outputs=[])) for n in range(10_000)]
    labelled = [_core.MetricModel(model, tags={"n": str(n)}) for n, model in enumerate(models)]
    page = _core.metrics_page(labelled).decode()
    lines = page.split("\n")
    assert len(lines) == 10_000 * (3 + 4 + 5 + 2) + 2 * (4 + 5 + 2) + 1
    assert lines.count('nv_inference_count{_n="9999",model="m9999",version="1"} 0') == 1
    assert families(page.encode()) == [(name, "counter") for name in COUNTERS + LATENCIES] + [
        (name, "gauge") for name in GAUGES
    ]


def test_the_cache_has_families_where_there_is_one() -> None:
    statistics = _core.StatisticsOptions(summary_quantiles=QUANTILES)
    house = House(int_spec(cached=True, statistics=statistics))
    assert b"nv_cache" not in _core.metrics_page([_core.MetricModel(house.model)])
    house.engine.set_local_cache(1 << 20)
    house.model = house.engine.create(int_spec(cached=True, statistics=statistics))
    house.instance = house.model.add_instance("cached")
    house.engine.publish("m", [house.model])
    serve(house, 100)
    for _ in range(2):
        connection = house.connect()
        house.send_ints(connection, [1], 5)
        assert house.answer(connection).status == 200
    assert house.metric("nv_cache_num_hits_per_model") == {"": 2}
    assert house.metric("nv_cache_num_misses_per_model") == {"": 1}
    assert house.metric("nv_inference_request_success") == {"": 3}
    assert house.metric("nv_inference_count") == {"": 1}
    shown = families(_core.metrics_page([_core.MetricModel(house.model)]))
    cache = [(name, kind) for name, kind in shown if name.startswith("nv_cache")]
    assert cache == [
        ("nv_cache_num_hits_per_model", "counter"),
        ("nv_cache_num_misses_per_model", "counter"),
        ("nv_cache_hit_duration_per_model", "counter"),
        ("nv_cache_miss_duration_per_model", "counter"),
        ("nv_cache_hit_summary_per_model", "summary"),
        ("nv_cache_miss_summary_per_model", "summary"),
    ]
    assert house.metric("nv_cache_hit_summary_per_model_count") == {"": 2}
    assert house.metric("nv_inference_queue_summary_us_count") == {"": 3}
    assert house.metric("nv_inference_compute_infer_summary_us_count") == {"": 1}
