# SPDX-License-Identifier: Apache-2.0
"""pyinfer answers as the real tritonserver does, except where docs/differences.md says so; and what it says is true."""

from __future__ import annotations

import pytest

from differential.case import Http
from differential.conftest import Session
from differential.documented import PAGE, read_rows
from differential.outcome import report
from differential.sections import SECTIONS

#: both servers and many requests: the limit of other tests is not enough on a busy machine
pytestmark = pytest.mark.timeout(600)


def test_the_corpus_is_large_and_of_both_protocols() -> None:
    cases = [case for section in SECTIONS.values() for case in section.cases()]
    over_http = sum(isinstance(case.request, Http) for case in cases)
    assert len(cases) >= 2000
    assert over_http >= 500 and len(cases) - over_http >= 500


@pytest.mark.parametrize("name", SECTIONS)
def test_section(name: str, differential: Session) -> None:
    outcome = differential.outcome(name)
    assert not outcome.differences, report(outcome)


def test_every_documented_difference_is_still_there(differential: Session) -> None:
    shown = {key for name in SECTIONS for key in differential.outcome(name).shown}
    stale = [row for row in read_rows() if row.key and row.key not in shown]
    assert not stale, "no request shows these rows any more: " + ", ".join(
        f"{PAGE.name}:{row.line} {row.key}" for row in stale
    )
