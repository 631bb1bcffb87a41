# SPDX-License-Identifier: Apache-2.0
"""The models that a model calls, or is made of: what the server says of them while that one is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pyinfer.errors import InvalidArgument
from pyinfer.perf.table import Table
from pyinfer.perf.target import GrpcTarget, HttpTarget, ModelInfo, ServerTimes

if TYPE_CHECKING:
    from pyinfer.perf.results import Measured

__all__ = ["ComposingModels", "Readings", "composing_table"]

#: name -> its counters
Readings = Mapping[str, ServerTimes]

_HEAD = ("model", "inferences", "executions", "queue", "compute input", "compute infer", "compute output")


class ComposingModels:
    """The steps of an ensemble, also of one within another, and the models that ``named`` has.

    ``open_model(name, version)`` gives the target of one. Raises InvalidArgument where the server tells nothing of one
    that is named.
    """

    def __init__(
        self,
        info: ModelInfo,
        named: Sequence[tuple[str, str]],
        open_model: Callable[[str, str], HttpTarget | GrpcTarget],
    ) -> None:
        self._targets: dict[str, HttpTarget | GrpcTarget] = {}
        for name, version in named:
            target = open_model(name, version)
            if target.statistics() is None:
                raise InvalidArgument(f"--bls-composing-models: the server has no statistics of '{name}'")
            self._targets[f"{name}:{version}" if version else name] = target
        left = list(info.steps)
        while left:
            name = left.pop(0)
            if name not in self._targets:
                self._targets[name] = open_model(name, "")
                left += self._targets[name].info().steps

    def read(self) -> Readings:
        """What the server counts of each of them now."""
        found = {name: target.statistics() for name, target in self._targets.items()}
        return {name: times for name, times in found.items() if times is not None}


def composing_table(results: Sequence[Measured]) -> Table | None:
    """A row for each level and model; None where there are no such models."""
    rows = [
        [f"{one.value:g}", name, *_cells(times)]
        for one in results
        for name, times in one.window.composing_times.items()
    ]
    return Table([results[0].kind.lower(), *_HEAD], rows) if rows else None


def _cells(times: ServerTimes) -> list[str]:
    requests = max(1, times.parts["success"][0])
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    averages = [f"{times.parts[part][1] / requests / 1e3:.0f}" for part in parts]
    return [str(times.inferences), str(times.executions), *averages]
