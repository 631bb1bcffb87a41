# SPDX-License-Identifier: Apache-2.0
"""What the load tools and /proc print -> numbers."""

from __future__ import annotations

import pytest

from perf.clients import parse_csv
from perf.procs import parse_parent, stolen_share
from perf.tools import LoadError, parse_h2load, parse_wrk, percentile

H2LOAD = """starting benchmark...
finished in 1.00s, 26551.00 req/s, 3.90MB/s
requests: 26551 total, 26615 started, 26551 done, 26551 succeeded, 3 failed, 2 errored, 0 timeout
status codes: 26560 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 3.90MB (4088854) total, 778.03KB (796701) headers (space savings 86.20%), 2.66MB (2787855) data
"""
WRK = """Running 1s test @ http://127.0.0.1:18000/v2/models/identity/infer
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.71ms    1.59ms  22.70ms   87.05%
    Req/Sec    24.79k     2.38k   28.84k    70.00%
  Latency Distribution
     50%  812.00us
     75%    3.14ms
     90%    4.23ms
     99%    9.20ms
  24631 requests in 1.00s, 5.29MB read
Requests/sec:  24566.93
Transfer/sec:      5.27MB
"""
WRK_TROUBLE = "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 7\n"


def test_h2load_summary_and_log() -> None:
    log = [f"17000{i}\t200\t{latency}" for i, latency in enumerate((300, 100, 200))] + ["170009\t503\t9"]
    report = parse_h2load(H2LOAD, log)
    assert (report.requests, report.requests_per_s, report.failures) == (3, 26551.0, 5)
    assert (report.p50_us, report.p99_us) == (200, 300)
    assert report.bytes_per_answer == 2787855 / 3


def test_wrk_units_and_trouble() -> None:
    report = parse_wrk(WRK)
    assert (report.requests, report.requests_per_s, report.failures) == (24631, 24566.93, 0)
    assert (report.p50_us, report.p99_us) == (812, 9200)
    assert parse_wrk(WRK.replace("24631 requests", WRK_TROUBLE + "  24631 requests")).failures == 17


def test_report_of_perf_analyzer() -> None:
    head = "Concurrency,Inferences/Second,Client Send,p50 latency,p90 latency,p95 latency,p99 latency"
    report = parse_csv(f"{head}\n8,1234.5,3,640,700,720,900\n")
    assert (report.requests_per_s, report.p50_us, report.p99_us) == (1234.5, 640, 900)


@pytest.mark.parametrize(
    "parse",
    [lambda text: parse_h2load(text, []), parse_wrk, parse_csv],
    ids=["h2load", "wrk", "perf_analyzer"],
)
def test_a_tool_that_failed_is_quoted(parse) -> None:
    with pytest.raises(LoadError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1")


@pytest.mark.parametrize(
    ("values", "share", "expected"), [([], 0.5, 0), ([7], 0.99, 7), ([1, 2, 3, 4], 0.5, 3), ([1, 2], 1.0, 2)]
)
def test_percentile(values: list[int], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


def test_stat_of_a_command_with_spaces_and_parentheses() -> None:
    text = "42 (a) (b c) S 7 42 42 0 -1 4194560 1 0 0 0 11 22 0 0 20 0 1 0 100 1 1 1"
    assert parse_parent(text) == 7


def test_stolen_share() -> None:
    assert stolen_share((10, 1000), (30, 1200)) == 0.1
    assert stolen_share((10, 1000), (10, 1000)) == 0
