# SPDX-License-Identifier: Apache-2.0
"""Row 61 of the catalogue of bad input: a wall clock that jumps changes no timeout, as none is measured by it.

It is read where a time of day is meant: what is shown to people, ages of files, and the end of credentials.
"""

from __future__ import annotations

import re

from repo import tree

WALL_CLOCK = re.compile(
    r"time\.time(?:_ns)?\(|datetime\.(?:now|utcnow|today)\(|system_clock|high_resolution_clock|CLOCK_REALTIME|gettimeofday"
)
#: who reads it, and what for
READERS = {
    "csrc/base/clock.cc": "the time of the last inference, in statistics",
    "pyinfer/perf/report.py": "times of requests in exports",
    "pyinfer/repository/cloud/cache.py": "the age of what a killed server has left",
    "pyinfer/repository/cloud/open.py": "when credentials are to be read again",
    "pyinfer/telemetry/otlp.py": "times of spans",
}


def test_row_61_the_wall_clock_measures_no_timeout() -> None:
    files = [*tree.files(".py", ".pyx", under="pyinfer"), *tree.files(".h", ".cc", under="csrc")]
    readers = {str(path) for path in files if WALL_CLOCK.search(tree.read(path))}
    assert readers == set(READERS), "a timeout belongs to a monotonic clock; who shows a time of day is listed here"
    for line in ("time.time()", "datetime.now(timezone.utc)", "std::chrono::system_clock::now()"):
        assert WALL_CLOCK.search(line), line
    assert not WALL_CLOCK.search("time.monotonic() std::chrono::steady_clock::now()")
