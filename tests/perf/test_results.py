# SPDX-License-Identifier: Apache-2.0
"""Windows -> figures -> JSON -> page."""

from __future__ import annotations

from pathlib import Path

import pytest

from perf.benches import keep_calmest, summarise
from perf.load import Window
from perf.render import pages, readme_with, render, verdicts
from perf.results import Result, machine_facts, read_results, write_result
from perf.scenarios import SCENARIOS

MACHINE = {
    "cpu": "Test CPU",
    "cores": 2,
    "memory_gib": 8.0,
    "kernel": "6.1",
    "python": "3.11",
    "packages": {"numpy": "2"},
}
README = "# Head\n<!-- measured: begin -->\nold\n<!-- measured: end -->\ntail\n"
MACHINE |= {"h2load": "h2load 1", "wrk": "wrk 4", "commit": "abc1234"}


def window(rate: float, stolen: float, failures: int = 0) -> Window:
    return Window(1000, rate, 200.0, 900.0, failures, 3.5, 1e6 / rate, 1.0, 8.0, stolen)


def test_the_calmest_windows_are_kept_and_their_median_told() -> None:
    windows = [window(100, 0.3), window(400, 0.0, 1), window(200, 0.01), window(300, 0.02, 2)]
    kept = keep_calmest(windows, 3)
    assert [w.requests_per_s for w in kept] == [400, 200, 300]
    summary = summarise(kept)
    assert summary["requests_per_s"] == 300
    assert summary["requests_per_s_range"] == [200, 400]
    assert summary["failures"] == 3
    assert len(summary["windows"]) == 3


def test_results_survive_json_rounded(tmp_path: Path) -> None:
    servers = {"pyinfer": {"cpu_us": 12.3456789, "windows": [{"stolen": 0.123456789}]}}
    path = write_result(
        Result("grpc_8x8", False, servers, MACHINE, "pyinfer perf", "2026-01-02T03:04:05+00:00"), tmp_path
    )
    assert path.name == "grpc_8x8.json"
    back = read_results(tmp_path)
    assert list(back) == ["grpc_8x8"]
    assert back["grpc_8x8"].servers == {"pyinfer": {"cpu_us": 12.346, "windows": [{"stolen": 0.12346}]}}


def test_the_page_shows_every_figure_and_verdict() -> None:
    load = {"pyinfer": summarise([window(80_000, 0.01)]), "triton": summarise([window(15_000, 0.02)])}
    start = {"pyinfer": {"ready_s": 0.789, "rss_mib": 61.5, "windows": []}}
    results = {
        "grpc_8x8": Result("grpc_8x8", False, load, MACHINE, "pyinfer perf", "2026-01-02T03:04:05+00:00"),
        "start": Result("start", False, start, MACHINE, taken="2026-01-02T03:04:05+00:00"),
    }
    page = render(results)
    assert "| pyinfer | 12.5 | 80,000 |" in page
    assert "| triton | 66.7 | 15,000 |" in page
    assert "| pyinfer.cpu_us <= 13 | 12.5 | yes |" in page
    assert "| pyinfer.ready_s <= 0.6 | 0.789 | **no** |" in page
    assert "`growth`" in page.partition("Not measured yet")[2]
    assert "load by pyinfer perf: `grpc_8x8`" in page
    assert "load by h2load, wrk: `start`" in page
    assert "2 cores of Test CPU" in page
    assert "glance" not in page
    by_name = {(scenario.name, verdict.goal.metric): verdict.met for scenario, verdict in verdicts(results)}
    assert by_name["grpc_8x8", "pyinfer.cpu_us"] is True
    assert by_name["start", "pyinfer.ready_s"] is False
    assert by_name["growth", "pyinfer.growth_mib"] is None
    assert len(verdicts({})) == sum(len(scenario.goals) for scenario in SCENARIOS)


def test_a_quick_result_is_marked_and_nothing_is_no_table() -> None:
    load = {"pyinfer": summarise([window(80_000, 0.01)])}
    assert "--quick" in render({"grpc_8x8": Result("grpc_8x8", True, load, MACHINE)})
    assert "Nothing has been measured yet." in render({})


def test_the_readme_shows_what_was_measured() -> None:
    servers = {"pyinfer": {"cpu_us": 5.0}, "triton": {"cpu_us": 61.0}}
    text = readme_with(README, {"grpc_8x8": Result("grpc_8x8", False, servers, MACHINE)})
    assert text.startswith("# Head\n") and text.endswith("tail\n")
    assert "| identity FP32[16], gRPC, 8 connections x 8 streams | 5 us | 61 us | 12.2 x |" in text
    assert "old" not in text
    assert readme_with(text, {}).count("|") < text.count("|")
    with pytest.raises(ValueError, match="no marks"):
        readme_with("# Head\n", {})


def test_committed_pages_are_what_the_committed_results_give(repository_root: Path) -> None:
    found = pages(read_results(repository_root / "perf/results"))
    for path, text in found.items():
        assert path.read_text() == text, f"{path.name}: run: python -m perf render"
    drawn = {path for path in found if path.suffix == ".svg"}
    assert set((repository_root / "docs/perf").glob("*.svg")) == drawn, "a chart that is no longer drawn"


def test_machine_facts_name_what_matters_and_not_the_machine() -> None:
    facts = machine_facts()
    assert facts["cores"] >= 1
    assert facts["memory_gib"] > 0
    assert "numpy" in facts["packages"]
    assert set(facts) == {"cpu", "cores", "memory_gib", "kernel", "python", "packages", "h2load", "wrk", "commit"}
