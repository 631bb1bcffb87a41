# SPDX-License-Identifier: Apache-2.0
"""The load of the SLO bench is what it says, and the same in every run."""

from pathlib import Path

import pytest

from perf import slo_runs
from perf.slo import DELAYS_MS, MODELS, Goodput, arrivals, build_variants
from perf.slo_runs import _compared


@pytest.mark.parametrize("burst", [1, 4])
def test_arrivals_have_their_rate_and_order(burst):
    times = arrivals(200, 100, burst, 0.2, seed=1)
    assert times == arrivals(200, 100, burst, 0.2, seed=1)
    assert times == sorted(times)
    assert times[0] > 0 and times[-1] < 100
    assert len(times) == pytest.approx(20_000, rel=0.1)


def test_bursts_are_denser():
    def most_in_100_ms(times):
        counts = [0] * 1000
        for at in times:
            counts[int(10 * at)] += 1
        return max(counts)

    assert most_in_100_ms(arrivals(200, 100, 4, 0.2, seed=1)) > 1.7 * most_in_100_ms(arrivals(200, 100, 1, 0, seed=1))


def test_variants_differ_in_their_scheduling_alone(tmp_path: Path):
    source = tmp_path / "magika"
    source.mkdir()
    (source / "config.pbtxt").write_text(
        'name: "magika"\nmax_batch_size: 32\ninstance_group [ { count: 1 } ]\ndynamic_batching { }\n'
    )
    names = build_variants(source, tmp_path / "served", MODELS[0])
    assert names == ["magika_slo", *(f"magika_{delay}" for delay in DELAYS_MS)]
    texts = [(tmp_path / "served" / name / "config.pbtxt").read_text() for name in names]
    assert texts[0].split("\n")[:2] == ['name: "magika_slo"', "max_batch_size: 32"]
    assert "latency_slo_ms" in texts[0]
    assert "dynamic_batching { max_queue_delay_microseconds: 2000 }" in texts[2]
    assert not any("instance_group" in text for text in texts)


def test_the_best_fixed_delay_is_what_counts():
    def run(good):
        return Goodput(good=good, late=0, refused=1 - good, p99_ms=2)

    figures = _compared({"slo": [run(0.9), run(0.7)], **{str(delay): [run(0.1), run(0.1)] for delay in DELAYS_MS[1:]}})
    assert figures["good"] == pytest.approx(0.8)
    seen = {"slo": [run(0.8)], **{str(delay): [run(0.1 * at)] for at, delay in enumerate(DELAYS_MS)}}
    figures = _compared(seen)
    assert figures["best_fixed_delay_ms"] == DELAYS_MS[-1]
    assert figures["ratio"] == pytest.approx(0.8 / 0.4)


def test_capacity_is_measured_with_full_batches_except_where_a_full_queue_is_refused(monkeypatch):
    in_flight = {}
    monkeypatch.setattr(
        slo_runs, "measure_rate", lambda _server, way, _model, many, _s: in_flight.setdefault(way, many)
    )
    for way in ("wide_mlp_slo", "wide_mlp_0"):
        slo_runs._capacity(None, MODELS[1], way, 1)
    instances, rows = 2, 64
    assert in_flight["wide_mlp_slo"] <= rows < instances * rows < in_flight["wide_mlp_0"]
