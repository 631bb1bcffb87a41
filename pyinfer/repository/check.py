# SPDX-License-Identifier: Apache-2.0
"""Finds everything that is wrong with model repositories, and loads nothing: what ``pyinfer config check`` prints.

Reads names, ``config.pbtxt`` files and the presence of the files that these name. No backend is imported: what a
backend would read from a model file, and complete the configuration with, is not judged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pyinfer.config.rules_graph import graph_faults
from pyinfer.errors import InvalidArgument
from pyinfer.repository.check_model import CheckedModel, CheckOptions, Finding, check_model
from pyinfer.repository.overrides import check_model_name
from pyinfer.repository.plan import DUPLICATE_REASON

__all__ = ["Report", "check"]


@dataclass(frozen=True)
class Report:
    """What was found."""

    models: int
    #: by file, line and column
    findings: tuple[Finding, ...]

    def text(self) -> str:
        """``file:line:column: field: message`` for each finding, and a line that counts them."""
        counted = f"{_count(self.models, 'model')} checked, {_count(len(self.findings), 'problem')} found"
        return "".join(f"{line}\n" for line in (*map(str, self.findings), counted))

    def json(self) -> str:
        """One JSON object: ``models`` (how many) and ``problems`` (model, file, line, column, field, message)."""
        return json.dumps({"models": self.models, "problems": [asdict(one) for one in self.findings]}, indent=2) + "\n"


def check(directories: Sequence[Path], options: CheckOptions) -> Report:
    """What is wrong with the repositories ``directories``, as one server would serve them. Raises nothing."""
    findings: list[Finding] = []
    models: list[CheckedModel] = []
    for repository in directories:
        try:
            names = sorted(entry.name for entry in repository.iterdir() if _is_model(entry))
        except OSError as error:
            findings.append(Finding("", str(repository), f"can not be read: {error.strerror or type(error).__name__}"))
            continue
        if not names:
            findings.append(Finding("", str(repository), _no_models(repository)))
        for name in names:
            findings += _name_findings(repository, name)
            models.append(check_model(repository / name, options))
    findings += [finding for model in models for finding in model.findings]
    findings += _duplicates(models)
    findings += _graph(models)
    return Report(len(models), tuple(sorted(findings, key=Finding.place)))


def _is_model(entry: Path) -> bool:
    # a link that leads nowhere was meant to be a model
    return not entry.name.startswith(".") and (entry.is_dir() or (entry.is_symlink() and not entry.exists()))


def _no_models(repository: Path) -> str:
    if (repository / "config.pbtxt").is_file():
        return f"is a model, not a repository; give {repository.parent} instead"
    return "holds no model directory"


def _name_findings(repository: Path, name: str) -> Iterator[Finding]:
    try:
        check_model_name(name)
    except InvalidArgument as error:
        yield Finding(ascii(name)[1:-1], str(repository), str(error))


def _duplicates(models: Iterable[CheckedModel]) -> Iterator[Finding]:
    places: dict[str, list[Path]] = {}
    for model in models:
        places.setdefault(model.name, []).append(model.directory)
    for name, directories in places.items():
        for directory in directories if len(directories) > 1 else ():
            others = ", ".join(str(other) for other in directories if other is not directory)
            yield Finding(name, str(directory), f"{DUPLICATE_REASON}; also {others}")


def _graph(models: Sequence[CheckedModel]) -> Iterator[Finding]:
    """What is wrong between an ensemble and its parts."""
    named = {model.name: model for model in models}
    configs = {name: model.config for name, model in named.items()}
    unsure = {name: model.unsure for name, model in named.items()}
    for name, model in named.items():
        yield from map(model.finding, graph_faults(name, configs, unsure))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
