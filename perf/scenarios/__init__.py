# SPDX-License-Identifier: Apache-2.0
"""What is measured and what is hoped for, read from the ``*.toml`` beside this file. Nothing here runs anything.

A file has tables ``[[scenario]]`` with the fields of :class:`Scenario`. CPU is that of the server for each request in
microseconds, user plus system of all its processes. Goals are lines of text; ``perf.goals`` has their grammar.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from perf.bodies import Protocol
from perf.goals import Goal, parse_goal

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["SCENARIOS", "Scenario", "read_scenarios", "scenario_named"]

#: in the order of the page
_FILES = ("serving", "python", "memory", "scheduling", "padding", "loads", "peers")


@dataclass(frozen=True)
class Scenario:
    """One piece of work.

    ``kind`` says how it is measured, and ``peers`` what is measured in the same run, alternating with pyinfer. Each
    request sends one row of ``elements`` values (short texts of BYTES) over ``connections`` x ``streams`` (HTTP: their
    product).
    ``known`` is what Triton showed on the 2-core machine on which the goals were set. ``shown``: a row of the README.
    """

    name: str
    title: str
    kind: str = "load"
    model: str = "identity"
    protocol: Protocol = "grpc"
    connections: int = 8
    streams: int = 8
    elements: int = 16
    datatype: Literal["FP32", "BYTES"] = "FP32"
    peers: tuple[str, ...] = ("triton",)
    goals: tuple[Goal, ...] = ()
    known: str = ""
    #: of what the load tools send, requests a second; 0: as many as come back
    rate: int = 0
    #: what a text encoder is asked for; see perf.minilm
    texts: Literal["titles", "sentences"] = "sentences"
    #: measure onnxruntime alone in this process too, at the mean batch that the server formed
    in_process: bool = False
    shown: bool = False

    @property
    def input(self) -> str:
        return {"simple_mlp": "x", "python_strings_passed": "STRINGS"}.get(self.model, "INPUT0")

    @property
    def output(self) -> str:
        return {"simple_mlp": "y", "python_strings_passed": "STRINGS"}.get(self.model, "OUTPUT0")


def read_scenarios(text: str, file: str) -> list[Scenario]:
    """Those of one file. Raises ValueError, with the name of the ``file``, for what it should not hold."""
    try:
        return [_scenario(table) for table in tomllib.loads(text)["scenario"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from None


def _scenario(table: dict[str, Any]) -> Scenario:
    unknown = table.keys() - {field.name for field in fields(Scenario)}
    if unknown:
        raise ValueError(f"{table.get('name')} has no field {min(unknown)!r}")
    lists = {"goals": tuple(map(parse_goal, table.get("goals", ())))}
    if "peers" in table:
        lists["peers"] = tuple(table["peers"])
    return Scenario(**{**table, **lists})


def _read() -> tuple[Scenario, ...]:
    folder = Path(__file__).parent
    files = [folder / f"{name}.toml" for name in _FILES]
    return tuple(scenario for file in files for scenario in read_scenarios(file.read_text(), file.name))


SCENARIOS = _read()


def scenario_named(name: str) -> Scenario:
    """Raises ValueError, with the names there are, for an unknown one."""
    for scenario in SCENARIOS:
        if scenario.name == name:
            return scenario
    raise ValueError(f"no scenario {name!r}; there are: {', '.join(s.name for s in SCENARIOS)}")
