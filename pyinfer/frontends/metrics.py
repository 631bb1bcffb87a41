# SPDX-License-Identifier: Apache-2.0
"""The metrics port: one page for Prometheus, served by the ordinary HTTP connections.

It does NOT collect anything; the service renders the page.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from pyinfer.frontends.control import FixedAction, error_result, refusal
from pyinfer.frontends.head import Action, Result

__all__ = ["MetricsSite"]

_log = logging.getLogger(__name__)

_HEADERS = (("Content-Type", "text/plain; charset=utf-8"),)
_NOTHING = FixedAction(Result(200))


class _Page(Action):
    __slots__ = ("_render", "_takes_long")

    def __init__(self, render: Callable[[], bytes], takes_long: Callable[[], bool]) -> None:
        super().__init__()
        self._render, self._takes_long = render, takes_long

    def blocks(self) -> bool:
        return self._takes_long()

    def run(self, body: bytes) -> Result:
        try:
            return Result(200, self._render(), _HEADERS)
        except Exception:
            _log.exception("rendering the metrics failed")
            return error_result(500, "internal error")


class MetricsSite:
    """GET ``/metrics`` and ``/metrics/``; every other path is an empty page, as it is in Triton."""

    def __init__(self, render: Callable[[], bytes], takes_long: Callable[[], bool]) -> None:
        """``takes_long``: whether the next page must be rendered off the loop thread, which is dearer than most are."""
        self._page = _Page(render, takes_long)

    def resolve(self, verb: bytes, target: bytes, fields: Mapping[bytes, bytes]) -> Action:
        if verb != b"GET":
            return refusal(verb, 405, "Method Not Allowed", (("Allow", "GET"),))
        return self._page if target.split(b"?", 1)[0] in (b"/metrics", b"/metrics/") else _NOTHING
